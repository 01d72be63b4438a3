"""Q4_K scales and minimums are exchanged."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from logitproof.mutations import Mutation
from logitproof.mutations.weights._quants import dequantize, matrices, requantized, swap_nibbles
from logitproof.reference import parts


@dataclass
class Q4KScaleMinSwapped(Mutation):
    """Scale and minimum of the sub-blocks of Q4_K are exchanged."""

    bug: ClassVar[str] = "Q4_K scales and minimums are exchanged"
    shows: ClassVar[str] = "gibberish, every position, from the first layer on"
    seen_in: ClassVar[tuple[str, ...]] = ("1bit-MONSTER #153",)
    first_tap: ClassVar[str] = "layers.0.attn.q_proj"
    remedy: ClassVar[str] = "d scales the scales, dmin the minimums"

    projection: str = ""

    def applies(self, config: Any) -> bool:
        """Models with rows of whole Q4_K blocks; whether it is quantized, the config cannot say."""
        return bool(matrices(parts.skeleton(config), "Q4_K", self.projection))

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Quantize the matrices to Q4_K and read them wrongly."""
        return requantized(model, "Q4_K", self.projection, _read)


def _read(blocks: np.ndarray) -> np.ndarray:
    order = [0, 1, 2, 3, 8, 9, 10, 11, 4, 5, 6, 7, 12, 13, 14, 15]
    spoilt = blocks.copy()
    spoilt[:, :16] = blocks[:, order]
    spoilt[:, 12:16] = swap_nibbles(blocks[:, 12:16])
    return dequantize("Q4_K", spoilt)
