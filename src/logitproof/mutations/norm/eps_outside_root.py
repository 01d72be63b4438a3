"""The epsilon is added to the root, not under it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from logitproof.mutations.norm._norms import WrongNorm, eps, scale


@dataclass
class EpsOutsideRoot(WrongNorm):
    """The epsilon is added to the root, not under it."""

    bug: ClassVar[str] = "the epsilon is added after the square root"
    shows: ClassVar[str] = "slow, largest for tokens of small norm"
    seen_in: ClassVar[tuple[str, ...]] = ("keras-hub #1472", "OLMo #281")
    first_tap: ClassVar[str] = "layers.0.attn_norm"
    needs: ClassVar[str] = "small activations"
    remedy: ClassVar[str] = "take the root of the mean square plus epsilon"

    def normed(self, norm: Any, x: torch.Tensor) -> torch.Tensor:
        """x / (rms + eps)."""
        wide = x.float()
        return (wide / (wide.square().mean(-1, keepdim=True).sqrt() + eps(norm)) * scale(norm)).to(x.dtype)
