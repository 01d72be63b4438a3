"""The kernels of both libraries on several instruction sets: measured in a process that is pinned to each, with the proof."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from logitproof.contract.isa import INSTRUCTION_SETS, Pinned, pinned, unavailable
from logitproof.errors import ContractError, EnvironmentFailed
from logitproof.files.last_words import last_words, shortened
from logitproof.files.untrusted import read_object
from logitproof.jobs.worker import Spec, Worker
from logitproof.protocol.machine import host_machine

IDS = list(range(3, 19))
VARIANTS = Path(".cache/isa")
"""Where `make isa` puts a build with a backend for each instruction set, by machine."""

WORDS = 10
"""Lines of the failed process that are quoted."""


def measure_on(
    isa: str, model: Path, dtypes: Sequence[str], quantizations: Sequence[str] = (), build: Path | None = None
) -> dict[str, Any]:
    """`measure_kernels` on one instruction set, with the `evidence`.

    For torch that is what a bfloat16 pass of the model said, for ggml what the backend of the measuring process said, which
    is one of those in the folder `build`. Raises ContractError of a name that is not known, of a processor that lacks it,
    of a build without a backend for it, and where nothing proves it.
    """
    if isa not in INSTRUCTION_SETS:
        raise ContractError(f"{isa!r} is no instruction set", where="--isa", remedy=f"known: {', '.join(INSTRUCTION_SETS)}")
    pin = _pin("transformers", isa)
    parts = ["--dtype=" + dtype for dtype in dtypes]
    ggml = _pin("llamacpp", isa) if quantizations else None
    if ggml is not None:
        parts += ["--quant", ",".join(quantizations), "--ggml", str(_backend(ggml, build or VARIANTS / host_machine()))]
    with tempfile.TemporaryDirectory(prefix="logitproof-kernels-") as name:
        evidence = _said_by_torch(pin, isa, model, Path(name))
        measured = _measured(pin, isa, model, parts, Path(name) / "kernels.json")
    if ggml is not None:
        features = {f"isa.{key}": str(value) for key, value in measured["isa"].items()}
        evidence = {**evidence, **ggml.proof.read(features, {}, f"ggml on {isa}")}
    return {**measured, "pinned_to": isa, "evidence": evidence}


def _pin(engine: str, isa: str) -> Pinned:
    pin = pinned(engine, None, isa)
    reason = f"{engine} does not say how it is pinned to it" if pin is None else unavailable(pin, Path())
    if pin is None or reason:
        raise ContractError(f"{isa} cannot be measured: {reason}", where="--isa", remedy="leave it out on this machine")
    return pin


def _backend(pin: Pinned, folder: Path) -> Path:
    """The file of the backend for this instruction set."""
    file = folder / f"libggml-cpu-{pin.options['variant']}.so"
    if not file.is_file():
        built = ", ".join(sorted(library.name for library in folder.glob("libggml-cpu-*.so"))) or "no backend at all"
        text = f"{pin.proof.isa} cannot be measured: there is no {file} ({built} there)"
        raise ContractError(text, where="--isa", remedy="run `make isa`, or name a build with variants by --ggml")
    return file


def _said_by_torch(pin: Pinned, isa: str, model: Path, folder: Path) -> dict[str, str]:
    spec = Spec("transformers", {"dtype": "bfloat16", "threads": 1}, dict(pin.environment), proof=pin.proof)
    with Worker(spec, name=f"transformers on {isa}") as worker:
        worker.hello()
        worker.load(model, None)
        return dict(worker.score(IDS, "prefill", folder / "logits.bin").isa)


def _measured(pin: Pinned, isa: str, model: Path, parts: Sequence[str], out: Path) -> dict[str, Any]:
    argv = [sys.executable, "-m", "logitproof", "kernels", str(model), "--out", str(out), *parts]
    # what the libraries print of every call is for the proof only, and would drown the console
    quiet = {key: value for key, value in pin.environment.items() if not key.endswith("VERBOSE")}
    done = subprocess.run(argv, env={**os.environ, **quiet}, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        words = "\n    ".join(shortened(last_words(done.stderr), WORDS))
        raise EnvironmentFailed(f"kernels on {isa}: {words}", remedy="measure without --isa")
    return read_object(out)
