"""Logits are not divided by the family's factor."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

from logitproof.mutations import Mutation
from logitproof.reference.patches import attributes_replaced


@dataclass
class ScaleMissing(Mutation):
    """Logits are not divided by the family's factor."""

    bug: ClassVar[str] = "logits_scaling is left out"
    shows: ClassVar[str] = "all logits too large by one factor: greedy text and cosine are exact"
    seen_in: ClassVar[tuple[str, ...]] = ()
    first_tap: ClassVar[str] = "logits"
    remedy: ClassVar[str] = "divide logits by logits_scaling"

    def applies(self, config: Any) -> bool:
        """Granite."""
        return float(getattr(config, "logits_scaling", 1.0)) != 1.0

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """A factor of one."""
        return attributes_replaced([(model.config, "logits_scaling", 1.0)])
