"""Q4_0 codes are centred at 7 instead of 8."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from logitproof.mutations import Mutation
from logitproof.mutations.weights._quants import dequantize, matrices, requantized
from logitproof.reference import parts


@dataclass
class Q40ZeroPoint(Mutation):
    """The codes of Q4_0 are centred at 7 instead of 8."""

    bug: ClassVar[str] = "Q4_0 codes are centred at 7 instead of 8"
    shows: ClassVar[str] = "every weight too large by one step, every position, from the first layer on"
    seen_in: ClassVar[tuple[str, ...]] = ("pie #491",)
    first_tap: ClassVar[str] = "layers.0.attn.q_proj"
    remedy: ClassVar[str] = "subtract 8 from every code"

    projection: str = ""

    def applies(self, config: Any) -> bool:
        """Models with rows of whole Q4_0 blocks; whether it is quantized, the config cannot say."""
        return bool(matrices(parts.skeleton(config), "Q4_0", self.projection))

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Quantize the matrices to Q4_0 and read them wrongly."""
        return requantized(model, "Q4_0", self.projection, _read)


def _read(blocks: np.ndarray) -> np.ndarray:
    return dequantize("Q4_0", blocks) + blocks[:, :2].copy().view(np.float16).astype(np.float32)
