"""Commands run beside one another: wall, processor time with all that they started, and what they left on disk."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType, GGUFReader, GGUFWriter, LlamaFileType
from gguf.quants import dequantize, quantize

from logitproof.protocol.machine import this_machine

ROOT = Path(__file__).parents[1]
REAL = Path(os.environ.get("LOGITPROOF_REAL") or ROOT / ".cache/real") / "SmolLM2-135M-Instruct-Q4_1.gguf"
TOOLS = Path(os.environ.get("LOGITPROOF_LLAMA_TOOLS") or ROOT / ".cache/llama-tools") / "bin"
PYTHON = sys.executable
CORES = len(os.sched_getaffinity(0))


@dataclass(frozen=True)
class Used:
    """Of one run of a command: seconds of wall, seconds of processor, bytes that it left."""

    wall: float
    cpu: float
    left: int = 0
    out: str = ""


def run(argv: Sequence[str | Path], left: Sequence[Path] = ()) -> Used:
    """Run a command to its end; raises CalledProcessError with its last words where it fails."""
    # as people have it: compiled modules are kept, whatever whoever measures was told
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    words, pipe = [str(word) for word in argv], subprocess.PIPE
    begin = time.perf_counter()
    with subprocess.Popen(words, stdout=pipe, stderr=pipe, text=True, env=environment) as process:
        out, err = process.communicate()  # reaps it, so that its time is among the children's
    wall = time.perf_counter() - begin
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, words, out[-2000:], err[-2000:])
    return Used(wall, 0.0, sum(size(path) for path in left), out)


def timed(argv: Sequence[str | Path], left: Sequence[Path] = ()) -> Used:
    """`run`, with the processor time of the command and of all that it waited for."""
    before = os.times()
    used = run(argv, left)
    after = os.times()
    spent = after.children_user - before.children_user + after.children_system - before.children_system
    return Used(used.wall, spent, used.left, used.out)


def warm(candidate: Path, text: Path) -> None:
    """What is done once on a machine and never again: our kernels are compiled, and both files are in the page cache."""
    argv = [PYTHON, "-m", "logitproof", "kl", candidate, REAL, "--text", text]
    run([*argv, "--context", "8", "--windows", "1", "--threads", "1"])


def together(*parts: Used) -> Used:
    """Several commands as one."""
    return Used(sum(part.wall for part in parts), sum(part.cpu for part in parts), sum(part.left for part in parts))


def size(path: Path) -> int:
    """Bytes of a file, or of all files of a folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def summary(runs: Sequence[Used]) -> dict[str, Any]:
    """Medians, and the spread of wall."""
    walls = [used.wall for used in runs]
    return {
        "wall_s": statistics.median(walls),
        "wall_spread_s": [min(walls), max(walls)],
        "cpu_s": statistics.median(used.cpu for used in runs),
        "left_bytes": statistics.median(used.left for used in runs),
    }


def ratio(runs: Sequence[Used], beside: Sequence[Used], what: str) -> float:
    """Median of the ratios of runs that were taken in turn."""
    return statistics.median(getattr(one, what) / getattr(two, what) for one, two in zip(runs, beside, strict=True))


def machine() -> dict[str, Any]:
    """Which processor, by its instruction sets, and how loaded it was."""
    here = this_machine()
    widest = next((name for name in ("amx_tile", "avx512f", "avx2", "asimd") if name in here.flags), "")
    return {"processor": here.processor, "isa": widest, "cores": CORES, "load": os.getloadavg()[0], "system": platform.system()}


def requantized(source: Path, out: Path, kind: GGMLQuantizationType, file_type: LlamaFileType) -> Path:
    """The same model in another type: every quantized tensor dequantized and quantized again, all else as it is."""
    reader = GGUFReader(source)
    writer = GGUFWriter(out, str(reader.fields["general.architecture"].contents()))
    for key in reader.fields.values():
        if not key.name.startswith("GGUF.") and key.name != "general.architecture":
            value = int(file_type) if key.name == "general.file_type" else key.contents()
            writer.add_key_value(key.name, value, key.types[0], key.types[1] if len(key.types) > 1 else None)
    plain = (GGMLQuantizationType.F32, GGMLQuantizationType.F16)
    for tensor in reader.tensors:
        if tensor.tensor_type in plain:
            writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
        else:
            values = np.asarray(dequantize(tensor.data, tensor.tensor_type), np.float32)
            writer.add_tensor(tensor.name, quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return out
