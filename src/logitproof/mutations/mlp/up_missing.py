"""The up projection is left out of the MLP."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

from logitproof.mutations import Mutation
from logitproof.mutations.mlp._gate import activation_of, combined


@dataclass
class UpMissing(Mutation):
    """down(act(gate)) without the product."""

    bug: ClassVar[str] = "the up projection is left out of the MLP"
    shows: ClassVar[str] = "wrong from the first MLP on, at every position"
    seen_in: ClassVar[tuple[str, ...]] = ()
    first_tap: ClassVar[str] = "layers.0.mlp.activation"
    remedy: ClassVar[str] = "multiply the activated gate by up"

    def applies(self, config: Any) -> bool:
        """Every model with a gated MLP."""
        return bool(activation_of(config))

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Combine gate and up wrongly in every gated MLP."""
        return combined(model, lambda gate, up, activation: activation(gate))
