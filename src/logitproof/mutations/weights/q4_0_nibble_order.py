"""Q4_0 nibbles are read in the wrong order."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from logitproof.mutations import Mutation
from logitproof.mutations.weights._quants import dequantize, matrices, requantized, swap_nibbles
from logitproof.reference import parts


@dataclass
class Q40NibbleOrder(Mutation):
    """The two codes of a byte of Q4_0 are exchanged."""

    bug: ClassVar[str] = "Q4_0 nibbles are read in the wrong order"
    shows: ClassVar[str] = "gibberish, every position, from the first layer on"
    seen_in: ClassVar[tuple[str, ...]] = ("aprender #2069", "imp M26")
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
    return dequantize("Q4_0", np.concatenate((blocks[:, :2], swap_nibbles(blocks[:, 2:])), axis=-1))
