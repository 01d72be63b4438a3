"""The norm before the MLP has the weight of the norm after attention."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

from logitproof.mutations import Mutation
from logitproof.reference import parts
from logitproof.reference.parts import roles
from logitproof.reference.patches import tensors_replaced


@dataclass
class MlpTakesAttentionWeight(Mutation):
    """The norm before the MLP has the weight of the norm after attention."""

    bug: ClassVar[str] = "post_attention_layernorm is loaded as the norm before the MLP"
    shows: ClassVar[str] = "attention exact, wrong from the first MLP on"
    seen_in: ClassVar[tuple[str, ...]] = ("Megatron-Bridge #4200", "torchtune #1835")
    first_tap: ClassVar[str] = "layers.0.ffn_norm"
    remedy: ClassVar[str] = "where a layer has pre_feedforward_layernorm, that is the norm before the MLP"

    def applies(self, config: Any) -> bool:
        """Models with a norm after attention and another one before the MLP."""
        return all({"after_attention", "before_mlp"} <= set(roles(layer)) for layer in parts.layers(parts.skeleton(config)))

    def applied_to(self, model: Any) -> AbstractContextManager[None]:
        """Load the one weight into both."""
        found = map(roles, parts.layers(model))
        return tensors_replaced([(one["before_mlp"].weight, one["after_attention"].weight) for one in found])
