"""RMS norms divide by one number for all positions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from logitproof.mutations.norm._norms import WrongNorm, eps, scale


@dataclass
class OverSequence(WrongNorm):
    """RMS norms divide by one number for all positions."""

    bug: ClassVar[str] = "the mean of the squares is taken over the positions too"
    shows: ClassVar[str] = "wrong at the first layer; early positions depend on later ones, and decode differs from prefill"
    seen_in: ClassVar[tuple[str, ...]] = ("llama-from-scratch #4",)
    first_tap: ClassVar[str] = "layers.0.attn_norm"
    remedy: ClassVar[str] = "take the mean over the width of one position"

    def normed(self, norm: Any, x: torch.Tensor) -> torch.Tensor:
        """x [B, T, ...] divided by one number of a sequence."""
        wide = x.float()
        everything = tuple(range(1, x.ndim))
        return (wide * torch.rsqrt(wide.square().mean(everything, keepdim=True) + eps(norm)) * scale(norm)).to(x.dtype)
