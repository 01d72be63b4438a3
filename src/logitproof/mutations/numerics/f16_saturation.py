"""Values beyond float16's range are cut off."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from logitproof.mutations.numerics._linear import WrongProduct


@dataclass
class F16Saturation(WrongProduct):
    """Values beyond float16's range are cut off."""

    bug: ClassVar[str] = "activations beyond the range of float16 are cut off"
    shows: ClassVar[str] = "exact until an activation passes 65504"
    seen_in: ClassVar[tuple[str, ...]] = ()
    first_tap: ClassVar[str] = "layers.0.mlp.out"
    needs: ClassVar[str] = "outliers"
    remedy: ClassVar[str] = "keep the products of a gated MLP in bfloat16 or float32"
    limit: float = 65504.0

    def product(self, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """What goes into a product is kept in float16's range."""
        return x.clamp(-self.limit, self.limit) @ weight.mT
