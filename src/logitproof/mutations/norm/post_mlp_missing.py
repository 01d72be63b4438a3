"""The norm after the MLP is missing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from logitproof.mutations.norm._norms import WrongRole


@dataclass
class PostMlpMissing(WrongRole):
    """The norm after the MLP is missing."""

    bug: ClassVar[str] = "the norm after the MLP is left out"
    shows: ClassVar[str] = "a jump at the first layer; the residual stream grows"
    seen_in: ClassVar[tuple[str, ...]] = ("tt-metal #22808",)
    first_tap: ClassVar[str] = "layers.0.mlp_post_norm"
    remedy: ClassVar[str] = "normalize after the MLP"

    role: ClassVar[str] = "after_mlp"

    def normed(self, norm: object, x: torch.Tensor) -> torch.Tensor:
        """Its input."""
        return x
