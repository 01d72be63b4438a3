"""The norm before the MLP is missing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from logitproof.mutations.norm._norms import WrongRole


@dataclass
class MlpMissing(WrongRole):
    """The norm before the MLP is missing."""

    bug: ClassVar[str] = "the norm before the MLP is left out"
    shows: ClassVar[str] = "a jump at the first layer; the residual stream grows"
    seen_in: ClassVar[tuple[str, ...]] = ()
    first_tap: ClassVar[str] = "layers.0.ffn_norm"
    remedy: ClassVar[str] = "normalize before the MLP"

    role: ClassVar[str] = "before_mlp"

    def normed(self, norm: object, x: torch.Tensor) -> torch.Tensor:
        """Its input."""
        return x
