"""The last products of a sum are left out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from logitproof.mutations.numerics._linear import WrongProduct


@dataclass
class LastProductLost(WrongProduct):
    """The last products of a sum are left out."""

    bug: ClassVar[str] = "a kernel's inner loop stops before a remainder that does not fill a vector"
    shows: ClassVar[str] = "wrong at every position where inner sizes are no multiple of the vector"
    seen_in: ClassVar[tuple[str, ...]] = ()
    first_tap: ClassVar[str] = "layers.0.attn.q_proj"
    remedy: ClassVar[str] = "add the remainder after the loop"

    def product(self, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """The remainder over blocks of eight; one product where there is none."""
        kept = x.shape[-1] - (x.shape[-1] % 8 or 1)
        return x[..., :kept] @ weight[:, :kept].mT
