"""Q5_0 high bits are read in the wrong order."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from logitproof.mutations import Mutation
from logitproof.mutations.weights._quants import dequantize, matrices, requantized
from logitproof.reference import parts


@dataclass
class Q50HighBits(Mutation):
    """The fifth bits of Q5_0 are taken in reverse order."""

    bug: ClassVar[str] = "Q5_0 high bits are read in the wrong order"
    shows: ClassVar[str] = "gibberish, every position, from the first layer on"
    seen_in: ClassVar[tuple[str, ...]] = ("aprender #3111",)
    first_tap: ClassVar[str] = "layers.0.attn.q_proj"
    remedy: ClassVar[str] = "bit i of qh belongs to weight i of the block"

    projection: str = ""

    def applies(self, config: Any) -> bool:
        """Models with rows of whole Q5_0 blocks; whether it is quantized, the config cannot say."""
        return bool(matrices(parts.skeleton(config), "Q5_0", self.projection))

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Quantize the matrices to Q5_0 and read them wrongly."""
        return requantized(model, "Q5_0", self.projection, _read)


def _read(blocks: np.ndarray) -> np.ndarray:
    high = np.packbits(np.unpackbits(blocks[:, 2:6], axis=-1, bitorder="little")[:, ::-1], axis=-1, bitorder="little")
    return dequantize("Q5_0", np.concatenate((blocks[:, :2], high, blocks[:, 6:]), axis=-1))
