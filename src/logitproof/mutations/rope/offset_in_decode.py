"""Tokens decoded through the cache are placed one position too far; the prompt is right."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from logitproof.mutations.rope._tables import WrongPositions


@dataclass
class OffsetInDecode(WrongPositions):
    """Tokens decoded through the cache are placed one position too far; the prompt is right."""

    bug: ClassVar[str] = "the position of a decoded token is one too large"
    shows: ClassVar[str] = "prefill exact; in decode every token is one too far from the prompt"
    seen_in: ClassVar[tuple[str, ...]] = ("imp M19",)
    first_tap: ClassVar[str] = "layers.0.attn.q_rope"
    remedy: ClassVar[str] = "the position of the next token is the number of tokens in the cache, not one more"
    needs: ClassVar[str] = "decode"

    def positions(self, right: torch.Tensor) -> torch.Tensor:
        """One more where a single later position is asked for."""
        return right + (right > 0).to(right.dtype) if right.shape[-1] == 1 else right
