"""Faults planted in the file of a published model of the family `llama`: the bytes of metadata and of tensors, nothing else."""

from __future__ import annotations

import shutil
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from logitproof.files.gguf import GgufFile

LAYER = 7
SCALED = 12
PER_BLOCK = {"Q4_1": 20, "Q8_0": 34}
"""Bytes of a block; its first two are the step in float16."""


@dataclass(frozen=True)
class Fault:
    """A fault: what diagnosis may call it, or the tap that localization must name first."""

    name: str
    plant: Callable[[GgufFile, Path], None]
    named: tuple[str, ...] = ()
    located: str = ""


def plant(fault: Fault, file: Path, folder: Path) -> Path:
    """A copy of the file in `folder` with the fault."""
    out = folder / f"{fault.name}.gguf"
    shutil.copyfile(file, out)
    fault.plant(GgufFile(file), out)
    return out


def _number(key: str, value: float) -> Callable[[GgufFile, Path], None]:
    def write(right: GgufFile, out: Path) -> None:
        name = f"{right.value('general.architecture')}.{key}"
        with out.open("r+b") as copy:
            copy.seek(right.fields[name].offset + 8 + len(name) + 4)
            copy.write(struct.pack("<f", value))
        assert abs(GgufFile(out).value(name) - value) <= 1e-6 * value

    return write


def _bytes(right: GgufFile, name: str) -> np.ndarray:
    """The rows [rows, bytes of a row] of a tensor, a copy."""
    data = next(tensor for tensor in right.tensors if tensor.name == name).data
    return np.array(data.reshape(-1, data.shape[-1]))


def _write(right: GgufFile, out: Path, name: str, rows: np.ndarray) -> None:
    tensor = next(tensor for tensor in right.tensors if tensor.name == name)
    assert rows.nbytes == tensor.n_bytes
    with out.open("r+b") as copy:
        copy.seek(tensor.data_offset)
        copy.write(np.ascontiguousarray(rows).tobytes())


def _layers(right: GgufFile) -> int:
    return int(right.value(f"{right.value('general.architecture')}.block_count"))


def _gate_up(right: GgufFile, out: Path) -> None:
    for layer in range(_layers(right)):
        gate, up = (f"blk.{layer}.ffn_{part}.weight" for part in ("gate", "up"))
        _write(right, out, gate, _bytes(right, up))
        _write(right, out, up, _bytes(right, gate))


def _unpermuted(right: GgufFile, out: Path) -> None:
    """Q and K in the order of Hugging Face's files: halves, where llama.cpp's kernel rotates neighbours."""
    size = int(right.value("llama.rope.dimension_count"))
    for layer in range(_layers(right)):
        for part in "qk":
            rows = _bytes(right, f"blk.{layer}.attn_{part}.weight")
            heads = rows.reshape(-1, size // 2, 2, rows.shape[-1]).swapaxes(1, 2)
            _write(right, out, f"blk.{layer}.attn_{part}.weight", heads)


def _zeroed(*names: str) -> Callable[[GgufFile, Path], None]:
    def write(right: GgufFile, out: Path) -> None:
        for name in names:
            _write(right, out, name, np.zeros_like(_bytes(right, name)))

    return write


def _scaled(name: str) -> Callable[[GgufFile, Path], None]:
    """Steps (and minimums) of every block of a tensor doubled."""

    def write(right: GgufFile, out: Path) -> None:
        kind = next(tensor for tensor in right.tensors if tensor.name == name).tensor_type.name
        blocks = _bytes(right, name).reshape(-1, PER_BLOCK[kind])
        steps = blocks[:, : 4 if kind == "Q4_1" else 2].copy().view(np.float16)
        blocks[:, : steps.nbytes // len(blocks)] = (steps * np.float16(2)).view(np.uint8)
        _write(right, out, name, blocks)

    return write


def _swapped(first: str, second: str) -> Callable[[GgufFile, Path], None]:
    def write(right: GgufFile, out: Path) -> None:
        rows = _bytes(right, first), _bytes(right, second)
        _write(right, out, first, rows[1])
        _write(right, out, second, rows[0])

    return write


FAULTS = (
    Fault("rope_base", _number("rope.freq_base", 10000.0), ("rope.base",)),
    Fault("eps", _number("attention.layer_norm_rms_epsilon", 0.03), ("norm.eps_value",)),
    Fault("gate_up_swapped", _gate_up, ("weights.gate_up_swapped",)),
    Fault("q_k_unpermuted", _unpermuted, ("rope.pairing", "weights.qk_unpermuted", "weights.qk_permuted_twice")),
    Fault("v_dropped", _zeroed(f"blk.{LAYER}.attn_v.weight"), located=f"layers.{LAYER}.attn.v_proj"),
    Fault("block_scales", _scaled(f"blk.{SCALED}.ffn_up.weight"), located=f"layers.{SCALED}.mlp.up"),
    Fault(
        "output_of_another_layer", _swapped("blk.3.attn_output.weight", "blk.4.attn_output.weight"), located="layers.3.attn.out"
    ),
    Fault("down_dropped", _zeroed("blk.20.ffn_down.weight"), located="layers.20.mlp.out"),
)
