"""The last four scales of a Q4_K block lack their high bits."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from logitproof.mutations import Mutation
from logitproof.mutations.weights._quants import dequantize, matrices, requantized
from logitproof.reference import parts


@dataclass
class Q4KScaleLanes(Mutation):
    """The high bits of the last four scales of Q4_K are ignored."""

    bug: ClassVar[str] = "the last four scales of a Q4_K block lack their high bits"
    shows: ClassVar[str] = "half of the sub-blocks too small, every position, from the first layer on"
    seen_in: ClassVar[tuple[str, ...]] = ("1bit-MONSTER #153",)
    first_tap: ClassVar[str] = "layers.0.attn.q_proj"
    remedy: ClassVar[str] = "the last four scales have two more bits in the first bytes"

    projection: str = ""

    def applies(self, config: Any) -> bool:
        """Models with rows of whole Q4_K blocks; whether it is quantized, the config cannot say."""
        return bool(matrices(parts.skeleton(config), "Q4_K", self.projection))

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Quantize the matrices to Q4_K and read them wrongly."""
        return requantized(model, "Q4_K", self.projection, _read)


def _read(blocks: np.ndarray) -> np.ndarray:
    spoilt = blocks.copy()
    spoilt[:, 4:12] &= 63
    return dequantize("Q4_K", spoilt)
