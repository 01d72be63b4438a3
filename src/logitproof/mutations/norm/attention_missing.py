"""The norm before attention is missing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from logitproof.mutations.norm._norms import WrongRole


@dataclass
class AttentionMissing(WrongRole):
    """The norm before attention is missing."""

    bug: ClassVar[str] = "the norm before attention is left out"
    shows: ClassVar[str] = "a jump at the first layer; the residual stream grows"
    seen_in: ClassVar[tuple[str, ...]] = ()
    first_tap: ClassVar[str] = "layers.0.attn_norm"
    remedy: ClassVar[str] = "normalize before attention"

    role: ClassVar[str] = "before_attention"

    def normed(self, norm: object, x: torch.Tensor) -> torch.Tensor:
        """Its input."""
        return x
