"""Q6_K high bits are read in the wrong order."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from logitproof.mutations import Mutation
from logitproof.mutations.weights._quants import dequantize, matrices, requantized
from logitproof.reference import parts


@dataclass
class Q6KHighBits(Mutation):
    """The high bits of Q6_K are taken in reverse order of their four groups."""

    bug: ClassVar[str] = "Q6_K high bits are read in the wrong order"
    shows: ClassVar[str] = "gibberish, every position, from the first layer on"
    seen_in: ClassVar[tuple[str, ...]] = ("aprender #3111",)
    first_tap: ClassVar[str] = "layers.0.attn.q_proj"
    remedy: ClassVar[str] = "bits 2g and 2g+1 of qh belong to group g of 32 weights"

    projection: str = ""

    def applies(self, config: Any) -> bool:
        """Models with rows of whole Q6_K blocks; whether it is quantized, the config cannot say."""
        return bool(matrices(parts.skeleton(config), "Q6_K", self.projection))

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Quantize the matrices to Q6_K and read them wrongly."""
        return requantized(model, "Q6_K", self.projection, _read)


def _read(blocks: np.ndarray) -> np.ndarray:
    high = blocks[:, 128:192]
    spoilt = blocks.copy()
    spoilt[:, 128:192] = (high << 6) | ((high << 2) & 48) | ((high >> 2) & 12) | (high >> 6)
    return dequantize("Q6_K", spoilt)
