"""Blocks of five, six and eight bits, Q5_0, Q6_K and Q8_0, read wrongly."""

from __future__ import annotations

import numpy as np

from logitproof.mutations import Record
from logitproof.mutations.weights._quants import WrongBlocks, dequantize


class Q50HighBits(WrongBlocks, id="weights.q5_0_high_bits"):
    """The fifth bits of Q5_0 are taken in reverse order."""

    record = Record(
        shows="gibberish, every position, from the first layer on",
        first_tap="layers.0.attn.q_proj",
        remedy="bit i of qh belongs to weight i of the block",
        seen_in=("aprender #3111",),
    )
    kind = "Q5_0"

    def spoil(self, blocks: np.ndarray) -> None:
        bits = np.unpackbits(blocks[:, 2:6], axis=-1, bitorder="little")
        blocks[:, 2:6] = np.packbits(bits[:, ::-1], axis=-1, bitorder="little")


class Q6KHighBits(WrongBlocks, id="weights.q6_k_high_bits"):
    """The high bits of Q6_K are taken in reverse order of their four groups."""

    record = Record(
        shows="gibberish, every position, from the first layer on",
        first_tap="layers.0.attn.q_proj",
        remedy="bits 2g and 2g+1 of qh belong to group g of 32 weights",
        seen_in=("aprender #3111",),
    )
    kind = "Q6_K"

    def spoil(self, blocks: np.ndarray) -> None:
        high = blocks[:, 128:192].copy()
        blocks[:, 128:192] = (high << 6) | ((high << 2) & 48) | ((high >> 2) & 12) | (high >> 6)


class Q6KOffsetMissing(WrongBlocks, id="weights.q6_k_offset_missing"):
    """The offset of 32 is not subtracted from the codes of Q6_K."""

    record = Record(
        shows="every weight too large: gibberish, every position, from the first layer on",
        first_tap="layers.0.attn.q_proj",
        remedy="subtract 32 from every code",
        seen_in=("imp M27",),
    )
    kind = "Q6_K"

    def read(self, blocks: np.ndarray) -> np.ndarray:
        factor = blocks[:, 208:].copy().view(np.float16).astype(np.float32)
        scale = blocks[:, 192:208].view(np.int8).astype(np.float32) * factor
        return dequantize("Q6_K", blocks) + np.repeat(32 * scale, 16, axis=-1)


class Q80ScaleLane(WrongBlocks, id="weights.q8_0_scale_lane"):
    """Blocks of Q8_0 are multiplied by the scale of the next block."""

    record = Record(
        shows="wrong every position, from the first layer on, by a third or so",
        first_tap="layers.0.attn.q_proj",
        remedy="read the scale of the block itself",
        seen_in=("1bit-MONSTER #153", "imp M27"),
    )
    kind = "Q8_0"

    def spoil(self, blocks: np.ndarray) -> None:
        blocks[:, :2] = np.roll(blocks[:, :2], -1, axis=0)


class Q80Unsigned(WrongBlocks, id="weights.q8_0_unsigned"):
    """The codes of Q8_0 are read as unsigned bytes."""

    record = Record(
        shows="gibberish, every position, from the first layer on",
        first_tap="layers.0.attn.q_proj",
        remedy="read the codes as int8",
        seen_in=("candle #776",),
    )
    kind = "Q8_0"

    def read(self, blocks: np.ndarray) -> np.ndarray:
        scale = blocks[:, :2].copy().view(np.float16).astype(np.float32)
        return scale * blocks[:, 2:].astype(np.float32)
