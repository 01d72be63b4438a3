"""The norm before the head is missing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from logitproof.mutations.norm._norms import WrongNorm


@dataclass
class FinalMissing(WrongNorm):
    """The norm before the head is missing."""

    bug: ClassVar[str] = "the norm before the head is left out"
    shows: ClassVar[str] = "every layer exact, the logits off by a scale"
    seen_in: ClassVar[tuple[str, ...]] = ("awslabs/keys_values #139",)
    first_tap: ClassVar[str] = "norm"
    remedy: ClassVar[str] = "normalize before the head"

    names: ClassVar[tuple[str, ...]] = ("norm",)

    def normed(self, norm: object, x: torch.Tensor) -> torch.Tensor:
        """Its input."""
        return x
