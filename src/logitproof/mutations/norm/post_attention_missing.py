"""The norm after attention is missing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from logitproof.mutations.norm._norms import WrongRole


@dataclass
class PostAttentionMissing(WrongRole):
    """The norm after attention is missing."""

    bug: ClassVar[str] = "the norm after attention, before the residual is added, is left out"
    shows: ClassVar[str] = "a jump at the first layer; the residual stream grows"
    seen_in: ClassVar[tuple[str, ...]] = ()
    first_tap: ClassVar[str] = "layers.0.attn_post_norm"
    remedy: ClassVar[str] = "normalize after attention"

    role: ClassVar[str] = "after_attention"

    def normed(self, norm: object, x: torch.Tensor) -> torch.Tensor:
        """Its input."""
        return x
