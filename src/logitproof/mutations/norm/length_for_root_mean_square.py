"""RMS norms divide by the length of the vector."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from logitproof.mutations.norm._norms import WrongNorm, eps, scale


@dataclass
class LengthForRootMeanSquare(WrongNorm):
    """RMS norms divide by the length of the vector."""

    bug: ClassVar[str] = "the squares are added and not averaged: the factor sqrt(width) is missing"
    shows: ClassVar[str] = "wrong at the first layer and every position; every block gives too little"
    seen_in: ClassVar[tuple[str, ...]] = ()
    first_tap: ClassVar[str] = "layers.0.attn_norm"
    remedy: ClassVar[str] = "divide by the root of the mean of the squares, not of their sum"

    def normed(self, norm: Any, x: torch.Tensor) -> torch.Tensor:
        """The weight times the unit vector."""
        wide = x.float()
        return (wide * torch.rsqrt(wide.square().sum(-1, keepdim=True) + eps(norm)) * scale(norm)).to(x.dtype)
