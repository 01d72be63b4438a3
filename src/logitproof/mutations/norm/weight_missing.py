"""RMS norms leave their weight out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from logitproof.mutations.norm._norms import WrongNorm, eps


@dataclass
class WeightMissing(WrongNorm):
    """RMS norms leave their weight out."""

    bug: ClassVar[str] = "the norm's weight is not applied"
    shows: ClassVar[str] = "wrong at the first layer and every position"
    seen_in: ClassVar[tuple[str, ...]] = ()
    first_tap: ClassVar[str] = "layers.0.attn_norm"
    remedy: ClassVar[str] = "multiply by the weight"

    def normed(self, norm: Any, x: torch.Tensor) -> torch.Tensor:
        """The norm without its weight."""
        wide = x.float()
        return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps(norm))).to(x.dtype)
