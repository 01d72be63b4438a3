"""GPTQ as AutoGPTQ and GPTQModel write it: `qweight`, `qzeros`, `scales` and `g_idx` of every matrix.

The document is the packing of both packages (auto_gptq/nn_modules/qlinear/qlinear_cuda.py, gptqmodel/nn_modules/qlinear): the
matrix lies transposed, int32 [in × bits / 32, out] with the numbers of a column one after another from the lowest bit on, also
across words; `qzeros` int32 [groups, out × bits / 32] likewise along its rows; input i belongs to group `g_idx[i]`, or to
i // group_size where there is no `g_idx`. The weight is scale × (number − zero). In `checkpoint_format: gptq` a zero is stored
less one, and counted modulo 2^bits; in `gptq_v2` as it is.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from logitproof.files.untrusted import Foreign
from logitproof.weights.quantized.held import Held, Matrix, Settings
from logitproof.weights.quantized.numbers import Array, bits_of

METHODS = ("gptq",)
WORD = 32
FLOATS = ("F16", "BF16", "F32")


class Stated(Foreign):
    """The settings of GPTQ that say what a number means."""

    bits: Literal[2, 3, 4, 8]
    group_size: int
    desc_act: bool = False
    checkpoint_format: str = "gptq"
    dynamic: dict[str, Any] | None = None


def matrices(held: Held, settings: Settings) -> list[Matrix]:
    """Every tensor named `qweight` with what belongs to it."""
    stated = settings.read(Stated)
    if stated.checkpoint_format not in ("gptq", "gptq_v2") or settings.values.get("is_marlin_format"):
        text = f"is {stated.checkpoint_format!r}, the layout of one kernel; gptq and gptq_v2 are read"
        raise settings.refused(text, "checkpoint_format", "take the checkpoint in the format gptq")
    if stated.group_size != -1 and stated.group_size < 1:
        raise settings.refused(f"is {stated.group_size}; it is -1 or at least 1", "group_size")
    return [_matrix(held, stem, stated) for stem in held.stems(".qweight")]


def _matrix(held: Held, stem: str, stated: Stated) -> Matrix:
    packed, zeros, scales, index = (f"{stem}.{ending}" for ending in ("qweight", "qzeros", "scales", "g_idx"))
    name = f"{stem}.weight"
    words, outputs = held.check(packed, ("I32",), (None, None), name)
    if index in held:
        (inputs,) = held.check(index, ("I32", "I64"), (None,), name)
    else:
        inputs = words * WORD // stated.bits
    bits = words * WORD // max(inputs, 1) if stated.dynamic else stated.bits
    if bits not in (2, 3, 4, 8) or words != -(-inputs * bits // WORD):
        raise held.refused(packed, f"has {words} words a column, and {inputs} numbers of {stated.bits} bits need others")
    groups, _ = held.check(scales, FLOATS, (None, outputs), name)
    held.check(zeros, ("I32",), (groups, -(-outputs * bits // WORD)), name)
    sources = (packed, zeros, scales, *([index] if index in held else []))
    size = inputs if stated.group_size == -1 else stated.group_size
    if not stated.dynamic and groups != -(-inputs // size):
        text = f"has {groups} groups, and group_size {stated.group_size} makes {-(-inputs // size)} of {inputs} inputs"
        raise held.refused(scales, text)
    offset = 1 if stated.checkpoint_format == "gptq" else 0

    def values() -> Array:
        numbers = bits_of(held.whole(packed).T, bits, inputs).astype(np.float32)  # [out, in]
        stored = bits_of(held.whole(zeros), bits, outputs).astype(np.int32)
        zero = (stored + offset) % (1 << bits)
        group = _groups(held, index, stated, inputs, groups)
        return np.asarray((numbers - zero.T[:, group]) * held.scales(scales).T[:, group], np.float32)

    return Matrix(name, (outputs, inputs), f"INT{bits}", sources, values)


def _groups(held: Held, index: str, stated: Stated, inputs: int, groups: int) -> Array:
    """The group [in] of every input."""
    size = -(-inputs // groups) if stated.group_size == -1 or stated.dynamic else stated.group_size
    plain = np.arange(inputs) // size
    if index not in held:
        return plain
    group = held.whole(index)
    if group.size and not 0 <= int(group.min()) <= int(group.max()) < groups:
        raise held.refused(index, f"names the groups {group.min()} to {group.max()}, and there are {groups}")
    if not stated.desc_act and not stated.dynamic and not np.array_equal(group, plain):
        text = "orders the inputs, and desc_act says that they are in order: engines disagree about which is true"
        raise held.refused(index, text)
    return group
