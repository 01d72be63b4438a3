"""Layers without positions (NoPE) are rotated like the others."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

from logitproof.mutations import Mutation
from logitproof.reference.parts import attentions
from logitproof.reference.patches import attributes_replaced


@dataclass
class NopeLayersRotated(Mutation):
    """Layers without positions (NoPE) are rotated like the others."""

    bug: ClassVar[str] = "RoPE is applied in layers that have none"
    shows: ClassVar[str] = "position 0 exact, wrong from position 1 on; every fourth layer of SmolLM3"
    seen_in: ClassVar[tuple[str, ...]] = ("Camelid #535",)
    first_tap: ClassVar[str] = "layers.3.attn.scores"
    remedy: ClassVar[str] = "read no_rope_layers: 1 rotates, 0 does not"

    def applies(self, config: Any) -> bool:
        """Models that say of each layer whether it rotates, where one does not."""
        return any(not rotates for rotates in getattr(config, "no_rope_layers", None) or ())

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Rotate in every layer."""
        return attributes_replaced([(layer, "use_rope", 1) for layer in attentions(model)])
