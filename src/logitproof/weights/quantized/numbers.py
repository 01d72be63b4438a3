"""Bit patterns and the numbers that they mean."""

from __future__ import annotations

import numpy as np

Array = np.ndarray
FLOAT_KINDS = ("F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2", "F8_E8M0")
"""Types of a safetensors file whose numbers `floats` reads."""
EIGHT, WORD = 8, 32
"""Bits of a byte and of a word."""


def _e4m3() -> Array:
    """The 256 numbers of E4M3: sign, 4 bits of exponent (bias 7), 3 of fraction, no infinity, NaN where all of them are set.

    Micikevicius et al., FP8 Formats for Deep Learning, 2022, table 1.
    """
    codes = np.arange(256)
    exponent, fraction = codes >> 3 & 15, (codes & 7) / 8
    sizes = np.where(exponent == 0, fraction * 2.0**-6, (1 + fraction) * 2.0 ** (exponent - 7.0))
    sizes[(codes & 127) == 127] = np.nan
    return np.asarray(np.where(codes & 128, -sizes, sizes), np.float32)


def _e8m0() -> Array:
    """The 256 powers of two of E8M0: 2^(code − 127), NaN at 255. OCP Microscaling Formats 1.0, section 5.4.1."""
    powers = np.ldexp(np.ones(256, np.float64), np.arange(256) - 127)
    powers[255] = np.nan
    return powers.astype(np.float32)


E4M3, E8M0 = _e4m3(), _e8m0()
E5M2 = (np.arange(256, dtype=np.uint16) << EIGHT).view(np.float16).astype(np.float32)
"""E5M2 is the upper half of a float16."""
E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6], np.float32)
"""The 16 numbers of E2M1 in the order of their codes. OCP Microscaling Formats 1.0, section 5.3.3."""


def floats(raw: Array, kind: str) -> Array:
    """float32 of the bytes of a tensor of a type in `FLOAT_KINDS`."""
    if kind == "BF16":
        return (raw.view("<u2").astype(np.uint32) << 16).view(np.float32)
    if kind in ("F8_E4M3", "F8_E5M2", "F8_E8M0"):
        return {"F8_E4M3": E4M3, "F8_E5M2": E5M2, "F8_E8M0": E8M0}[kind][raw]
    return raw.view({"F64": "<f8", "F32": "<f4", "F16": "<f2"}[kind]).astype(np.float32)


def nibbles(data: Array, *, high_first: bool = False) -> Array:
    """uint8 [.., 2n] of the halves of bytes [.., n]; the lower half comes first unless it is said otherwise."""
    halves = (data >> 4, data & 15) if high_first else (data & 15, data >> 4)
    return np.stack(halves, axis=-1).reshape(*data.shape[:-1], -1)


def words_of(count: int, bits: int, *, dense: bool = True) -> int:
    """How many words of 32 bits `count` numbers take: of `bits` bits each, or in whole numbers a word."""
    return -(-count * bits // WORD) if dense else -(-count // (WORD // bits))


def bits_of(words: Array, bits: int, count: int, *, dense: bool = True) -> Array:
    """uint8 [.., count]: the first numbers of `bits` bits of int32 [.., n], one after another from the lowest bit on.

    A number may lie across the end of a word, as those of 3 bits do; where they are not `dense`, a word holds whole numbers and
    the bits that are left over mean nothing.
    """
    data = np.ascontiguousarray(words, "<i4").view(np.uint8).reshape(*words.shape[:-1], -1)
    if bits == EIGHT:
        return data[..., :count]
    if bits == EIGHT // 2:
        return nibbles(data)[..., :count]
    single = np.unpackbits(data, axis=-1, bitorder="little")
    if not dense:
        single = single.reshape(*words.shape, WORD)[..., : WORD // bits * bits].reshape(*words.shape[:-1], -1)
    table = single[..., : count * bits].reshape(*words.shape[:-1], count, bits)
    return np.asarray(np.packbits(table, axis=-1, bitorder="little")[..., 0])
