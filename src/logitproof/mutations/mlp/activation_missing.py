"""The activation of the gate is left out."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import nn

from logitproof.mutations import Mutation
from logitproof.mutations.mlp._gate import activation_of, activations_replaced


@dataclass
class ActivationMissing(Mutation):
    """The gate is multiplied without its activation."""

    bug: ClassVar[str] = "the activation of the gate is left out"
    shows: ClassVar[str] = "wrong from the first MLP on, at every position, the output far too large"
    seen_in: ClassVar[tuple[str, ...]] = ()
    first_tap: ClassVar[str] = "layers.0.mlp.activation"
    remedy: ClassVar[str] = "apply `hidden_act` to the gate before the product"

    def applies(self, config: Any) -> bool:
        """Gated MLPs with the activation that is mistaken."""
        return bool(activation_of(config))

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Give every gated MLP the wrong activation."""
        return activations_replaced(model, nn.Identity())
