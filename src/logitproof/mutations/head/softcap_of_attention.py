"""Logits are capped at the value of the attention scores."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

from logitproof.mutations import Mutation
from logitproof.reference.patches import attributes_replaced


@dataclass
class SoftcapOfAttention(Mutation):
    """Logits are capped at the value of the attention scores."""

    bug: ClassVar[str] = "the two soft-caps of Gemma 2 are exchanged at the head"
    shows: ClassVar[str] = "large logits too large or too small, greedy text is exact"
    seen_in: ClassVar[tuple[str, ...]] = ()
    first_tap: ClassVar[str] = "logits"
    remedy: ClassVar[str] = "cap logits at final_logit_softcapping"

    def applies(self, config: Any) -> bool:
        """Families with two caps of different size."""
        caps = [getattr(config, name, None) for name in ("final_logit_softcapping", "attn_logit_softcapping")]
        return all(caps) and caps[0] != caps[1]

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Capped at the other value."""
        return attributes_replaced([(model.config, "final_logit_softcapping", model.config.attn_logit_softcapping)])
