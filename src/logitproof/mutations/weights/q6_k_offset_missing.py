"""Q6_K codes lack their offset of 32."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from logitproof.mutations import Mutation
from logitproof.mutations.weights._quants import dequantize, matrices, requantized
from logitproof.reference import parts


@dataclass
class Q6KOffsetMissing(Mutation):
    """32 is not subtracted from the codes of Q6_K."""

    bug: ClassVar[str] = "Q6_K codes lack their offset of 32"
    shows: ClassVar[str] = "every weight too large: gibberish, every position, from the first layer on"
    seen_in: ClassVar[tuple[str, ...]] = ("imp M27",)
    first_tap: ClassVar[str] = "layers.0.attn.q_proj"
    remedy: ClassVar[str] = "subtract 32 from every code"

    projection: str = ""

    def applies(self, config: Any) -> bool:
        """Models with rows of whole Q6_K blocks; whether it is quantized, the config cannot say."""
        return bool(matrices(parts.skeleton(config), "Q6_K", self.projection))

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Quantize the matrices to Q6_K and read them wrongly."""
        return requantized(model, "Q6_K", self.projection, _read)


def _read(blocks: np.ndarray) -> np.ndarray:
    scale = blocks[:, 192:208].view(np.int8).astype(np.float32) * blocks[:, 208:].copy().view(np.float16).astype(np.float32)
    return dequantize("Q6_K", blocks) + np.repeat(32 * scale, 16, axis=-1)
