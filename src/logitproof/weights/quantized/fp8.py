"""Weights in FP8 with scales beside them: DeepSeek's blocks, a scale a channel, or one a matrix.

The documents: DeepSeek-V3's README_WEIGHTS.md (`weight_scale_inv` float32, one a block of `weight_block_size`, the last blocks
cut short; the weight is number × scale_inv, whatever the name says), fbgemm_fp8 of transformers (`weight_scale` [out, 1]) and
ModelOpt (`weight_scale` of one number). MXFP8 has a power of two (E8M0) for 32 inputs. Numbers are E4M3, or E5M2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated

import numpy as np
from pydantic import Field

from logitproof.files.untrusted import Foreign
from logitproof.weights.quantized.held import Held, Matrix, Settings, grouped
from logitproof.weights.quantized.numbers import E8M0, Array

METHODS = ("fp8", "fbgemm_fp8", "mxfp8")
NUMBERS = ("F8_E4M3", "F8_E5M2")
SCALES = ("F32", "F16", "BF16", "F8_E8M0", "U8")
ENDINGS = ("_scale_inv", "_scale")
MX_GROUP = 32


class Stated(Foreign):
    """The size of a block [outputs, inputs], where there are blocks."""

    weight_block_size: Annotated[list[Annotated[int, Field(ge=1, lt=1 << 31)]], Field(min_length=2, max_length=2)] | None = None


def matrices(held: Held, settings: Settings) -> list[Matrix]:
    """Every tensor of FP8, and the scales that are called as it is with an ending."""
    stated = settings.read(Stated)
    block = (1, MX_GROUP) if settings.values.get("quant_method") == "mxfp8" else stated.weight_block_size
    return [matrix(held, name, block) for name in held.names if held.kind(name) in NUMBERS and not name.endswith(ENDINGS)]


def matrix(held: Held, name: str, block: Sequence[int] | None) -> Matrix:
    """The matrix [.., out, in] of this name, by the scales that are there."""
    scale = next((name + ending for ending in ENDINGS if name + ending in held), name + ENDINGS[0 if block else 1])
    shape = held.shape(name)
    own = held.check(scale, SCALES, held.shape(scale) if scale in held else (), name)
    size = scale_block(held, scale, own, shape, block)

    def values() -> Array:
        numbers = held.floats(name)
        if not np.isfinite(numbers).all():
            raise held.refused(name, "holds a number that is not finite")
        scales = scale_values(held, scale)
        if size is None:
            return numbers * scales.reshape(-1)[0]
        table = scales.reshape(*shape[:-2], -1, 1) if size == (1, shape[-1]) else scales
        return np.asarray(numbers * grouped(table, shape[-2], shape[-1], size), np.float32)

    return Matrix(name, shape, held.kind(name), (name, scale), values)


def scale_values(held: Held, name: str) -> Array:
    """float32 of scales, whose bytes are exponents where they are whole numbers."""
    if held.kind(name) != "U8":
        return held.scales(name)
    powers = E8M0[held.whole(name)]
    if not np.isfinite(powers).all():
        raise held.refused(name, "holds a scale that is not finite")
    return powers


def scale_block(
    held: Held, name: str, own: tuple[int, ...], shape: tuple[int, ...], block: Sequence[int] | None
) -> tuple[int, int] | None:
    """For how many outputs and inputs a scale of the shape `own` stands; None where one stands for all."""
    if math.prod(own) == 1 and not (block and len(own) > 1):
        return None
    if len(shape) < 2:
        raise held.refused(name, f"has the shape {list(own)}, and what it scales is no matrix: {list(shape)}")
    rows, columns = shape[-2:]
    if block:
        wanted = (*shape[:-2], -(-rows // block[0]), -(-columns // block[1]))
        if own == wanted:
            return (int(block[0]), int(block[1]))
        text = f"has the shape {list(own)}, and blocks of {block[0]} × {block[1]} make {list(wanted)} of {list(shape)}"
        raise held.refused(name, text)
    if own in ((*shape[:-1], 1), shape[:-1]):
        return (1, columns)
    text = f"has the shape {list(own)}; {list(shape)} has one scale, one a row, or blocks that weight_block_size states"
    raise held.refused(name, text)
