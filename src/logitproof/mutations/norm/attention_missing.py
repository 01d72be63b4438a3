"""The norm before attention is missing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from logitproof.mutations.norm._norms import WrongNorm


@dataclass
class AttentionMissing(WrongNorm):
    """The norm before attention is missing."""

    bug: ClassVar[str] = "the norm before attention is left out"
    shows: ClassVar[str] = "a jump at the first layer; the residual stream grows"
    seen_in: ClassVar[tuple[str, ...]] = ("kekzl/imp mutation harness",)
    first_tap: ClassVar[str] = "layers.0.attn_norm"
    remedy: ClassVar[str] = "normalize before attention"

    names: ClassVar[tuple[str, ...]] = ("input_layernorm",)

    def normed(self, norm: object, x: torch.Tensor) -> torch.Tensor:
        """Its input."""
        return x
