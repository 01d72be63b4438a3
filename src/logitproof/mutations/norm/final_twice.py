"""The norm before the head is applied twice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from logitproof.mutations.norm._norms import WrongNorm, normalized


@dataclass
class FinalTwice(WrongNorm):
    """The norm before the head is applied twice."""

    bug: ClassVar[str] = "the norm before the head is applied twice"
    shows: ClassVar[str] = "every layer exact, the logits wrong by the weight of the last norm"
    seen_in: ClassVar[tuple[str, ...]] = ()
    first_tap: ClassVar[str] = "norm"
    remedy: ClassVar[str] = "normalize once before the head"

    names: ClassVar[tuple[str, ...]] = ("norm",)

    def normed(self, norm: Any, x: torch.Tensor) -> torch.Tensor:
        """The right norm of the right norm."""
        return normalized(norm, normalized(norm, x))
