"""Q8_0 blocks use their neighbour's scale."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from logitproof.mutations import Mutation
from logitproof.mutations.weights._quants import dequantize, matrices, requantized
from logitproof.reference import parts


@dataclass
class Q80ScaleLane(Mutation):
    """Blocks of Q8_0 are multiplied by the scale of the next block."""

    bug: ClassVar[str] = "Q8_0 blocks use their neighbour's scale"
    shows: ClassVar[str] = "wrong every position, from the first layer on, by a third or so"
    seen_in: ClassVar[tuple[str, ...]] = ("1bit-MONSTER #153", "imp M27")
    first_tap: ClassVar[str] = "layers.0.attn.q_proj"
    remedy: ClassVar[str] = "read the scale of the block itself"

    projection: str = ""

    def applies(self, config: Any) -> bool:
        """Models with rows of whole Q8_0 blocks; whether it is quantized, the config cannot say."""
        return bool(matrices(parts.skeleton(config), "Q8_0", self.projection))

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Quantize the matrices to Q8_0 and read them wrongly."""
        return requantized(model, "Q8_0", self.projection, _read)


def _read(blocks: np.ndarray) -> np.ndarray:
    spoilt = blocks.copy()
    spoilt[:, :2] = np.roll(blocks[:, :2], -1, axis=0)
    return dequantize("Q8_0", spoilt)
