"""Q4_0 nibbles are read as neighbouring weights."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from logitproof.mutations import Mutation
from logitproof.mutations.weights._quants import dequantize, matrices, requantized
from logitproof.reference import parts


@dataclass
class Q40AdjacentNibbles(Mutation):
    """The two codes of a byte of Q4_0 are taken for neighbours, as other formats pack them."""

    bug: ClassVar[str] = "Q4_0 nibbles are read as neighbouring weights"
    shows: ClassVar[str] = "gibberish, every position, from the first layer on"
    seen_in: ClassVar[tuple[str, ...]] = ("aprender #2069",)
    first_tap: ClassVar[str] = "layers.0.attn.q_proj"
    remedy: ClassVar[str] = "low nibbles are the first half of a block, high nibbles the second"

    projection: str = ""

    def applies(self, config: Any) -> bool:
        """Models with rows of whole Q4_0 blocks; whether it is quantized, the config cannot say."""
        return bool(matrices(parts.skeleton(config), "Q4_0", self.projection))

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Quantize the matrices to Q4_0 and read them wrongly."""
        return requantized(model, "Q4_0", self.projection, _read)


def _read(blocks: np.ndarray) -> np.ndarray:
    right = dequantize("Q4_0", blocks)
    return np.stack((right[:, :16], right[:, 16:]), axis=-1).reshape(right.shape)
