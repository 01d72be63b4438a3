"""MXFP4 as gpt-oss is published: `NAME_blocks` and `NAME_scales` of the experts' matrices.

The document is OCP Microscaling Formats (MX) 1.0: 32 numbers of E2M1 share a scale, a power of two in E8M0. In the checkpoint
(gpt_oss/torch/weights.py of openai/gpt-oss) a byte holds two numbers, the lower half first: blocks uint8 [experts, out, groups,
16], scales uint8 [experts, out, groups]. transformers keeps an expert's matrix as [in, out], so that is what is made of it.
"""

from __future__ import annotations

import numpy as np

from logitproof.weights.quantized.held import Held, Matrix, Settings
from logitproof.weights.quantized.numbers import E2M1, E8M0, Array, nibbles

METHODS = ("mxfp4",)
HALF = 16
"""Bytes of a block."""
NAN = 255
STACKED = 4
"""Dimensions of the blocks of experts."""


def matrices(held: Held, settings: Settings) -> list[Matrix]:
    """Every tensor whose name ends in `_blocks`, with its scales."""
    return [_matrix(held, stem) for stem in held.stems("_blocks", "U8")]


def decoded(packed: Array, exponents: Array) -> Array:
    """float32 [.., 32n] of bytes [.., 16n] and exponents [.., n]."""
    numbers = E2M1[nibbles(packed)].reshape(*exponents.shape, -1)
    return np.asarray(numbers * E8M0[exponents][..., None], np.float32).reshape(*exponents.shape[:-1], -1)


def _matrix(held: Held, stem: str) -> Matrix:
    blocks, scales = f"{stem}_blocks", f"{stem}_scales"
    shape = held.shape(blocks)
    if len(shape) not in (STACKED - 1, STACKED) or shape[-1] != HALF:
        raise held.refused(blocks, f"has the shape {list(shape)}, and blocks are [experts, outputs, groups, {HALF}]")
    held.check(scales, ("U8", "F8_E8M0"), shape[:-1], stem)
    stacked = len(shape) == STACKED
    inputs = shape[-2] * HALF * 2
    made = (shape[0], inputs, shape[1]) if stacked else (shape[0], inputs)

    def part(number: int | slice) -> Array:
        exponents = exponents_of(held, scales)[number]
        table = held.whole(blocks)[number]
        whole = decoded(table.reshape(*table.shape[:-2], -1), exponents)
        return np.ascontiguousarray(whole.swapaxes(-1, -2)) if stacked else whole

    return Matrix(stem, made, "MXFP4", (blocks, scales), lambda: part(slice(None)), part)


def exponents_of(held: Held, name: str) -> Array:
    """The bytes of scales that are powers of two, in their shape; ModelError where one of them is NaN."""
    exponents = np.asarray(held.tensors(name).raw(name)).reshape(held.shape(name))
    if (exponents == NAN).any():
        raise held.refused(name, "holds a scale that is not finite")
    return exponents
