"""Q8_0 codes are read as unsigned."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from logitproof.mutations import Mutation
from logitproof.mutations.weights._quants import matrices, requantized
from logitproof.reference import parts


@dataclass
class Q80Unsigned(Mutation):
    """The codes of Q8_0 are read as unsigned bytes."""

    bug: ClassVar[str] = "Q8_0 codes are read as unsigned"
    shows: ClassVar[str] = "gibberish, every position, from the first layer on"
    seen_in: ClassVar[tuple[str, ...]] = ()
    first_tap: ClassVar[str] = "layers.0.attn.q_proj"
    remedy: ClassVar[str] = "read the codes as int8"

    projection: str = ""

    def applies(self, config: Any) -> bool:
        """Models with rows of whole Q8_0 blocks; whether it is quantized, the config cannot say."""
        return bool(matrices(parts.skeleton(config), "Q8_0", self.projection))

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Quantize the matrices to Q8_0 and read them wrongly."""
        return requantized(model, "Q8_0", self.projection, _read)


def _read(blocks: np.ndarray) -> np.ndarray:
    scale = blocks[:, :2].copy().view(np.float16).astype(np.float32)
    return scale * blocks[:, 2:].astype(np.float32)
