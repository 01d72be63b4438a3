"""Q4_K minimums are dropped."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from logitproof.mutations import Mutation
from logitproof.mutations.weights._quants import dequantize, matrices, requantized
from logitproof.reference import parts


@dataclass
class Q4KMinimumDropped(Mutation):
    """The minimum of the sub-blocks of Q4_K is not subtracted."""

    bug: ClassVar[str] = "Q4_K minimums are dropped"
    shows: ClassVar[str] = "every weight too large: gibberish, every position, from the first layer on"
    seen_in: ClassVar[tuple[str, ...]] = ("1bit-MONSTER #153", "imp M27")
    first_tap: ClassVar[str] = "layers.0.attn.q_proj"
    remedy: ClassVar[str] = "subtract dmin times the minimum"

    projection: str = ""

    def applies(self, config: Any) -> bool:
        """Models with rows of whole Q4_K blocks; whether it is quantized, the config cannot say."""
        return bool(matrices(parts.skeleton(config), "Q4_K", self.projection))

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Quantize the matrices to Q4_K and read them wrongly."""
        return requantized(model, "Q4_K", self.projection, _read)


def _read(blocks: np.ndarray) -> np.ndarray:
    spoilt = blocks.copy()
    spoilt[:, 2:4] = 0
    return dequantize("Q4_K", spoilt)
