"""Positions begin again at 0 in every chunk of a prefill."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from logitproof.mutations.rope._tables import WrongPositions


@dataclass
class RestartedInEachChunk(WrongPositions):
    """Positions begin again at 0 in every chunk of a prefill."""

    bug: ClassVar[str] = "positions restart at 0 in each chunk of a chunked prefill"
    shows: ClassVar[str] = "the first chunk exact, every later one wrong"
    seen_in: ClassVar[tuple[str, ...]] = ()
    first_tap: ClassVar[str] = "layers.0.attn.q_rope"
    remedy: ClassVar[str] = "add the number of tokens in the cache to the positions of a chunk"
    needs: ClassVar[str] = "chunked prefill"

    def positions(self, right: torch.Tensor) -> torch.Tensor:
        """Counted from the first of the pass."""
        return right - right[..., :1] if right.shape[-1] > 1 else right
