"""Blocks of four bits, Q4_0 and Q4_K, read wrongly."""

from __future__ import annotations

import numpy as np

from logitproof.mutations import Record
from logitproof.mutations.weights._quants import WrongBlocks, dequantize, swap_nibbles


class Q40NibbleOrder(WrongBlocks, id="weights.q4_0_nibble_order"):
    """The two codes of a byte of Q4_0 are exchanged."""

    record = Record(
        shows="gibberish, every position, from the first layer on",
        first_tap="layers.0.attn.q_proj",
        remedy="low nibbles are the first half of a block, high nibbles the second",
        seen_in=("aprender #2069", "imp M26"),
    )
    kind = "Q4_0"

    def spoil(self, blocks: np.ndarray) -> None:
        blocks[:, 2:] = swap_nibbles(blocks[:, 2:])


class Q40AdjacentNibbles(WrongBlocks, id="weights.q4_0_adjacent_nibbles"):
    """The two codes of a byte of Q4_0 are taken for neighbours, as other formats pack them."""

    record = Record(
        shows="gibberish, every position, from the first layer on",
        first_tap="layers.0.attn.q_proj",
        remedy="low nibbles are the first half of a block, high nibbles the second",
        seen_in=("aprender #2069",),
    )
    kind = "Q4_0"

    def read(self, blocks: np.ndarray) -> np.ndarray:
        right = dequantize("Q4_0", blocks)
        return np.stack((right[:, :16], right[:, 16:]), axis=-1).reshape(right.shape)


class Q40ZeroPoint(WrongBlocks, id="weights.q4_0_zero_point"):
    """Q4_0 codes are centred at 7 instead of 8."""

    record = Record(
        shows="every weight too large by one step, every position, from the first layer on",
        first_tap="layers.0.attn.q_proj",
        remedy="subtract 8 from every code",
        seen_in=("pie #491",),
    )
    kind = "Q4_0"

    def read(self, blocks: np.ndarray) -> np.ndarray:
        return dequantize("Q4_0", blocks) + blocks[:, :2].copy().view(np.float16).astype(np.float32)


class Q4KNibbleOrder(WrongBlocks, id="weights.q4_k_nibble_order"):
    """The two codes of a byte of Q4_K are exchanged."""

    record = Record(
        shows="gibberish, every position, from the first layer on",
        first_tap="layers.0.attn.q_proj",
        remedy="low nibbles are the first 32 weights of a pair of sub-blocks, high nibbles the second",
        seen_in=("aprender #2069", "imp M26"),
    )
    kind = "Q4_K"

    def spoil(self, blocks: np.ndarray) -> None:
        blocks[:, 16:] = swap_nibbles(blocks[:, 16:])


class Q4KMinimumDropped(WrongBlocks, id="weights.q4_k_minimum_dropped"):
    """The minimum of the sub-blocks of Q4_K is not subtracted."""

    record = Record(
        shows="every weight too large: gibberish, every position, from the first layer on",
        first_tap="layers.0.attn.q_proj",
        remedy="subtract dmin times the minimum",
        seen_in=("1bit-MONSTER #153", "imp M27"),
    )
    kind = "Q4_K"

    def spoil(self, blocks: np.ndarray) -> None:
        blocks[:, 2:4] = 0


class Q4KScaleLanes(WrongBlocks, id="weights.q4_k_scale_lanes"):
    """The last four scales of a Q4_K block lack their high bits."""

    record = Record(
        shows="half of the sub-blocks too small, every position, from the first layer on",
        first_tap="layers.0.attn.q_proj",
        remedy="the last four scales have two more bits in the first bytes",
        seen_in=("1bit-MONSTER #153",),
    )
    kind = "Q4_K"

    def spoil(self, blocks: np.ndarray) -> None:
        blocks[:, 4:12] &= 63


class Q4KScaleMinSwapped(WrongBlocks, id="weights.q4_k_scale_min_swapped"):
    """Scale and minimum of the sub-blocks of Q4_K are exchanged."""

    record = Record(
        shows="gibberish, every position, from the first layer on",
        first_tap="layers.0.attn.q_proj",
        remedy="d scales the scales, dmin the minimums",
        seen_in=("1bit-MONSTER #153",),
    )
    kind = "Q4_K"

    def spoil(self, blocks: np.ndarray) -> None:
        blocks[:, :16] = blocks[:, [0, 1, 2, 3, 8, 9, 10, 11, 4, 5, 6, 7, 12, 13, 14, 15]]
        blocks[:, 12:16] = swap_nibbles(blocks[:, 12:16])
