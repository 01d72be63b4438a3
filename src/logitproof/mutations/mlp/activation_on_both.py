"""The activation is applied to gate and up both."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

from logitproof.mutations import Mutation
from logitproof.mutations.mlp._gate import activation_of, combined


@dataclass
class ActivationOnBoth(Mutation):
    """Gate and up both pass through the activation."""

    bug: ClassVar[str] = "the activation is applied to gate and up both"
    shows: ClassVar[str] = "wrong from the first MLP on, at every position"
    seen_in: ClassVar[tuple[str, ...]] = ()
    first_tap: ClassVar[str] = "layers.0.mlp.activation"
    remedy: ClassVar[str] = "apply the activation to the gate only"

    def applies(self, config: Any) -> bool:
        """Every model with a gated MLP."""
        return bool(activation_of(config))

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Combine gate and up wrongly in every gated MLP."""
        return combined(model, lambda gate, up, activation: activation(gate) * activation(up))
