"""LayerNorm stands in the place of RMSNorm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from logitproof.mutations.norm._norms import WrongNorm, eps, scale


@dataclass
class LayerNorm(WrongNorm):
    """LayerNorm stands in the place of RMSNorm: the mean is subtracted."""

    bug: ClassVar[str] = "the mean is subtracted before the root mean square is taken"
    shows: ClassVar[str] = "wrong at the first layer and every position, by the size of the mean"
    seen_in: ClassVar[tuple[str, ...]] = ("llama.cpp #173",)
    first_tap: ClassVar[str] = "layers.0.attn_norm"
    remedy: ClassVar[str] = "do not subtract the mean"

    def normed(self, norm: Any, x: torch.Tensor) -> torch.Tensor:
        """The centred norm."""
        wide = x.float() - x.float().mean(-1, keepdim=True)
        return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps(norm)) * scale(norm)).to(x.dtype)
