"""The norm on the heads of Q is missing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from logitproof.mutations.norm._norms import WrongNorm


@dataclass
class QMissing(WrongNorm):
    """The norm on the heads of Q is missing."""

    bug: ClassVar[str] = "K is normalized and Q is not"
    shows: ClassVar[str] = "position 0 of attention exact, wrong from position 1 on"
    seen_in: ClassVar[tuple[str, ...]] = ("MegaVIT #17",)
    first_tap: ClassVar[str] = "layers.0.attn.q"
    remedy: ClassVar[str] = "normalize every head of Q and of K before RoPE"

    names: ClassVar[tuple[str, ...]] = ("q_norm",)

    def normed(self, norm: object, x: torch.Tensor) -> torch.Tensor:
        """Its input."""
        return x
