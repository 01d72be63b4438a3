"""The norm on the heads of K is missing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from logitproof.mutations.norm._norms import WrongNorm


@dataclass
class KMissing(WrongNorm):
    """The norm on the heads of K is missing."""

    bug: ClassVar[str] = "Q is normalized and K is not"
    shows: ClassVar[str] = "position 0 of attention exact, wrong from position 1 on"
    seen_in: ClassVar[tuple[str, ...]] = ()
    first_tap: ClassVar[str] = "layers.0.attn.k"
    remedy: ClassVar[str] = "normalize every head of Q and of K before RoPE"

    names: ClassVar[tuple[str, ...]] = ("k_norm",)

    def normed(self, norm: object, x: torch.Tensor) -> torch.Tensor:
        """Its input."""
        return x
