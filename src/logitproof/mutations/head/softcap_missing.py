"""The soft-cap of the logits is left out."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

from logitproof.mutations import Mutation
from logitproof.reference.patches import attributes_replaced


@dataclass
class SoftcapMissing(Mutation):
    """The soft-cap of the logits is left out."""

    bug: ClassVar[str] = "logits are not capped"
    shows: ClassVar[str] = "large logits too large, the order of tokens kept: greedy text is exact"
    seen_in: ClassVar[tuple[str, ...]] = ("llama.cpp #8197",)
    first_tap: ClassVar[str] = "logits"
    remedy: ClassVar[str] = "cap logits: c * tanh(logit / c)"

    def applies(self, config: Any) -> bool:
        """Families that cap their logits."""
        return bool(getattr(config, "final_logit_softcapping", None))

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Without a cap."""
        return attributes_replaced([(model.config, "final_logit_softcapping", None)])
