"""Faults planted in the file of a published model: the bytes of its metadata and of its tensors, nothing else."""

from __future__ import annotations

import shutil
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from logitproof.files.gguf import GgufFile

PER_BLOCK = {"Q4_1": 20, "Q8_0": 34, "Q5_0": 22, "Q4_K": 144, "Q6_K": 210}
"""Bytes of a block."""
STEPS = {"Q4_1": (0, 4), "Q8_0": (0, 2), "Q5_0": (0, 2), "Q4_K": (0, 4), "Q6_K": (208, 210)}
"""Where step and minimum of a block stand among its bytes, in float16."""
WINDOW = 8
Plant = Callable[[GgufFile, Path], None]


@dataclass(frozen=True)
class Fault:
    """A fault: what a diagnosis may call it, or the tap that a localization must name first, or that ids of texts change."""

    name: str
    plant: Plant
    named: tuple[str, ...] = ()
    located: str = ""
    tokenizer: bool = False


def plant(fault: Fault, file: Path, folder: Path) -> Path:
    """A copy of the file in `folder` with the fault."""
    out = folder / f"{fault.name}.gguf"
    shutil.copyfile(file, out)
    fault.plant(GgufFile(file), out)
    return out


def _number(key: str, value: float, kind: str = "<f") -> Plant:
    def write(right: GgufFile, out: Path) -> None:
        name = f"{right.value('general.architecture')}.{key}"
        with out.open("r+b") as copy:
            copy.seek(right.fields[name].offset + 8 + len(name) + 4)
            copy.write(struct.pack(kind, value))
        assert abs(GgufFile(out).value(name) - value) <= 1e-6 * value

    return write


def _tensor(right: GgufFile, name: str):  # type: ignore[no-untyped-def]
    return next(tensor for tensor in right.tensors if tensor.name == name)


def _bytes(right: GgufFile, name: str) -> np.ndarray:
    """The rows [rows, bytes of a row] of a tensor, a copy."""
    data = _tensor(right, name).data
    return np.array(data.reshape(-1, data.shape[-1]))


def _write(right: GgufFile, out: Path, name: str, rows: np.ndarray) -> None:
    tensor = _tensor(right, name)
    assert rows.nbytes == tensor.n_bytes
    with out.open("r+b") as copy:
        copy.seek(tensor.data_offset)
        copy.write(np.ascontiguousarray(rows).tobytes())


def _layers(right: GgufFile) -> int:
    return int(right.value(f"{right.value('general.architecture')}.block_count"))


def _gate_up(right: GgufFile, out: Path) -> None:
    for layer in range(_layers(right)):
        gate, up = (f"blk.{layer}.ffn_{part}.weight" for part in ("gate", "up"))
        _swapped(gate, up)(right, out)


def _unpermuted(right: GgufFile, out: Path) -> None:
    """Q and K in the order of Hugging Face's files: halves, where llama.cpp's kernel rotates neighbours."""
    _reordered(right, out, lambda heads, size: heads.reshape(-1, size // 2, 2, heads.shape[-1]).swapaxes(1, 2))


def _permuted(right: GgufFile, out: Path) -> None:
    """Q and K in the order that the converter of Llama writes: neighbours, where the kernel of this family rotates halves."""
    _reordered(right, out, lambda heads, size: heads.reshape(-1, 2, size // 2, heads.shape[-1]).swapaxes(1, 2))


def _reordered(right: GgufFile, out: Path, order: Callable[[np.ndarray, int], np.ndarray]) -> None:
    family = right.value("general.architecture")
    size = int(right.value(f"{family}.rope.dimension_count") or right.value(f"{family}.attention.key_length"))
    for layer in range(_layers(right)):
        for part in "qk":
            name = f"blk.{layer}.attn_{part}.weight"
            _write(right, out, name, order(_bytes(right, name), size))


def _zeroed(name: str) -> Plant:
    def write(right: GgufFile, out: Path) -> None:
        _write(right, out, name, np.zeros_like(_bytes(right, name)))

    return write


def _scaled(name: str, factor: float = 2.0, blocks: slice = slice(None)) -> Plant:
    """Steps (and minimums) of these blocks of a tensor multiplied."""

    def write(right: GgufFile, out: Path) -> None:
        kind = _tensor(right, name).tensor_type.name
        rows = _bytes(right, name)
        flat = rows.reshape(-1, PER_BLOCK[kind])
        begin, end = STEPS[kind]
        steps = flat[blocks, begin:end].copy().view(np.float16)
        flat[blocks, begin:end] = (steps * np.float16(factor)).view(np.uint8)
        _write(right, out, name, rows)

    return write


def _swapped(first: str, second: str) -> Plant:
    def write(right: GgufFile, out: Path) -> None:
        rows = _bytes(right, first), _bytes(right, second)
        _write(right, out, first, rows[1])
        _write(right, out, second, rows[0])

    return write


def _one_more(right: GgufFile, out: Path) -> None:
    """One added to the weight of every norm, to which the converter had added it already."""
    for tensor in right.tensors:
        if "norm" in tensor.name:
            _write(right, out, tensor.name, (np.array(tensor.data, np.float32) + np.float32(1)).view(np.uint8))


def _qk_norms(right: GgufFile, out: Path) -> None:
    for layer in range(_layers(right)):
        names = [f"blk.{layer}.attn_{part}_norm.weight" for part in "qk"]
        weights = [np.array(_tensor(right, name).data, np.float32).view(np.uint8) for name in names]
        for name, weight in zip(names, reversed(weights), strict=True):
            _write(right, out, name, weight)


def _text(right: GgufFile, out: Path, key: str, entry: int, text: str) -> None:
    """Another text of the same length as one entry of a list of texts."""
    field = right.fields[key]
    before = str(right.value(key)[entry]).encode()
    assert len(before) == len(text.encode())
    content = out.read_bytes()
    # texts stand one after the other, each behind its length
    sizes = sum(8 + len(str(value).encode()) for value in right.value(key)[:entry])
    place = field.offset + 8 + len(key) + 4 + 4 + 8 + sizes + 8
    assert content[place : place + len(before)] == before
    with out.open("r+b") as copy:
        copy.seek(place)
        copy.write(text.encode())


def _merge(entry: int) -> Plant:
    """A merge that the list begins with is made of nothing that occurs: another one's two halves stand there again."""

    def write(right: GgufFile, out: Path) -> None:
        merges = [str(merge) for merge in right.value("tokenizer.ggml.merges")]
        size = len(merges[entry].encode())
        alike = next(merge for merge in merges[entry + 1 :] if len(merge.encode()) == size)
        _text(right, out, "tokenizer.ggml.merges", entry, alike)

    return write


def _token(before: str, after: str) -> Plant:
    """A token of the vocabulary with another text of the same length: what it stands for is made of pieces."""

    def write(right: GgufFile, out: Path) -> None:
        key = "tokenizer.ggml.tokens"
        texts = [str(text) for text in right.value(key)]
        assert after not in texts
        _text(right, out, key, texts.index(before), after)
        assert GgufFile(out).value(key)[texts.index(before)] == after

    return write


def _of_all_layers(base: float, unlike: Fault) -> tuple[Fault, ...]:
    return (
        Fault("rope_base", _number("rope.freq_base", base), ("rope.base",)),
        Fault("eps", _number("attention.layer_norm_rms_epsilon", 0.03), ("norm.eps_value",)),
        Fault("gate_up_swapped", _gate_up, ("weights.gate_up_swapped",)),
        unlike,
    )


def _of_one_tensor(layers: Sequence[int]) -> tuple[Fault, ...]:
    first, second, third, fourth = layers
    return (
        Fault("v_dropped", _zeroed(f"blk.{first}.attn_v.weight"), located=f"layers.{first}.attn.v_proj"),
        Fault("scales_doubled", _scaled(f"blk.{second}.ffn_up.weight"), located=f"layers.{second}.mlp.up"),
        Fault("block_scale", _scaled(f"blk.{first}.ffn_gate.weight", 64.0, slice(40, 41)), located=f"layers.{first}.mlp.gate"),
        Fault(
            "output_of_another_layer",
            _swapped(f"blk.{third}.attn_output.weight", f"blk.{third + 1}.attn_output.weight"),
            located=f"layers.{third}.attn.out",
        ),
        Fault("down_dropped", _zeroed(f"blk.{fourth}.ffn_down.weight"), located=f"layers.{fourth}.mlp.out"),
    )


PERMUTED = ("rope.pairing", "rope.pairing.interleaved", "weights.qk_unpermuted", "weights.qk_permuted_twice")
LLAMA = (
    *_of_all_layers(10000.0, Fault("q_k_unpermuted", _unpermuted, PERMUTED)),
    *_of_one_tensor((7, 12, 3, 20)),
    Fault("merge", _merge(3), tokenizer=True),
)
GEMMA3 = (
    *_of_all_layers(20000.0, Fault("q_k_permuted", _permuted, PERMUTED)),
    Fault("window", _number("attention.sliding_window", WINDOW, "<I"), ("attention.window_size",)),
    Fault("norms_plus_one", _one_more, ("norm.one_twice",)),
    Fault("qk_norms_swapped", _qk_norms, ("norm.qk_swapped",)),
    *_of_one_tensor((7, 12, 3, 15)),
    Fault("token", _token("▁the", "▁jqz"), tokenizer=True),
)
