"""The norms on the heads of Q and K are missing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from logitproof.mutations.norm._norms import HEADS, WrongNorm


@dataclass
class QkMissing(WrongNorm):
    """The norms on the heads of Q and K are missing."""

    bug: ClassVar[str] = "QK-norm is left out"
    shows: ClassVar[str] = "position 0 of attention exact, wrong from position 1 on"
    seen_in: ClassVar[tuple[str, ...]] = ("vllm-metal #659",)
    first_tap: ClassVar[str] = "layers.0.attn.q"
    remedy: ClassVar[str] = "normalize every head of Q and K before RoPE"

    names: ClassVar[tuple[str, ...]] = HEADS

    def normed(self, norm: object, x: torch.Tensor) -> torch.Tensor:
        """Its input."""
        return x
