"""AWQ as AutoAWQ writes it (`version: gemm`): `qweight`, `qzeros` and `scales` of every matrix.

The document is AutoAWQ's packing (awq/modules/linear/gemm.py, awq/utils/packing_utils.py): the matrix lies transposed, int32
[in, out / 8]; the eight numbers of a word, from the lowest bits on, are outputs 0, 2, 4, 6, 1, 3, 5, 7 of their eight. `qzeros`
[in / group, out / 8] lies likewise, `scales` is float16 [in / group, out]. The weight is scale × (number − zero).
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from logitproof.files.untrusted import Foreign
from logitproof.weights.quantized.held import Held, Matrix, Settings, grouped
from logitproof.weights.quantized.numbers import Array, bits_of

METHODS = ("awq",)
ORDER = (0, 2, 4, 6, 1, 3, 5, 7)
FLOATS = ("F16", "BF16", "F32")


class Stated(Foreign):
    """The settings of AWQ that say what a number means."""

    bits: Literal[4]
    group_size: int
    version: str = "gemm"


def matrices(held: Held, settings: Settings) -> list[Matrix]:
    """Every tensor named `qweight` with what belongs to it."""
    renamed = {"w_bit": "bits", "q_group_size": "group_size"}  # as AutoAWQ's own quant_config has it
    values = {renamed.get(key, key): value for key, value in settings.values.items()}
    stated = Settings(settings.file, settings.field, values).read(Stated)
    if stated.version.lower() != "gemm":
        text = f"is {stated.version!r}, the layout of one kernel; gemm is read"
        raise settings.refused(text, "version", "take the checkpoint in the version gemm")
    if stated.group_size != -1 and stated.group_size < 1:
        raise settings.refused(f"is {stated.group_size}; it is -1 or at least 1", "group_size")
    return [_matrix(held, stem, stated) for stem in held.stems(".qweight")]


def _matrix(held: Held, stem: str, stated: Stated) -> Matrix:
    packed, zeros, scales = (f"{stem}.{ending}" for ending in ("qweight", "qzeros", "scales"))
    name = f"{stem}.weight"
    inputs, words = held.check(packed, ("I32",), (None, None), name)
    size = inputs if stated.group_size == -1 else stated.group_size
    outputs = words * len(ORDER)
    groups, _ = held.check(scales, FLOATS, (None, outputs), name)
    if groups * size != inputs:
        raise held.refused(scales, f"has {groups} groups, and group_size {stated.group_size} makes others of {inputs} inputs")
    held.check(zeros, ("I32",), (groups, words), name)

    def values() -> Array:
        numbers, zero = _unpacked(held.whole(packed)), _unpacked(held.whole(zeros))
        scale = grouped(held.scales(scales), inputs, outputs, (size, 1))
        return np.ascontiguousarray(((numbers - grouped(zero, inputs, outputs, (size, 1))) * scale).T)

    return Matrix(name, (outputs, inputs), f"INT{stated.bits}", (packed, zeros, scales), values)


def _unpacked(words: Array) -> Array:
    """float32 [.., 8n] of int32 [.., n], the outputs in order."""
    numbers = bits_of(words, 4, words.shape[-1] * len(ORDER)).reshape(*words.shape, len(ORDER))
    return numbers[..., np.argsort(ORDER)].reshape(*words.shape[:-1], -1).astype(np.float32)
