"""What a block adds to the residual stream is not scaled."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

from logitproof.mutations import Mutation
from logitproof.reference import parts
from logitproof.reference.patches import attributes_replaced


@dataclass
class ResidualScaleMissing(Mutation):
    """What a block adds to the residual stream is not scaled."""

    bug: ClassVar[str] = "residual_multiplier is left out"
    shows: ClassVar[str] = "wrong at every position from the first layer on"
    seen_in: ClassVar[tuple[str, ...]] = ()
    first_tap: ClassVar[str] = "layers.0.residual"
    remedy: ClassVar[str] = "multiply what attention and MLP return by residual_multiplier before it is added"

    def applies(self, config: Any) -> bool:
        """Granite."""
        return float(getattr(config, "residual_multiplier", 1.0)) != 1.0

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """A factor of one in every layer."""
        return attributes_replaced([(layer, "residual_multiplier", 1.0) for layer in parts.layers(model)])
