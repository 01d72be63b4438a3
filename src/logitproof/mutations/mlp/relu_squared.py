"""The MLP uses squared ReLU instead of SiLU."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from logitproof.mutations import Mutation
from logitproof.mutations.mlp._gate import Activation, activation_of, activations_replaced


@dataclass
class ReluSquared(Mutation):
    """The squared ReLU of other families where the model means SiLU."""

    bug: ClassVar[str] = "the MLP uses squared ReLU instead of SiLU"
    shows: ClassVar[str] = "wrong from the first MLP on, at every position"
    seen_in: ClassVar[tuple[str, ...]] = ()
    first_tap: ClassVar[str] = "layers.0.mlp.activation"
    remedy: ClassVar[str] = "read `hidden_act` of the config"

    def applies(self, config: Any) -> bool:
        """Gated MLPs with the activation that is mistaken."""
        return activation_of(config) in ("silu", "swish")

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Give every gated MLP the wrong activation."""
        return activations_replaced(model, Activation(lambda x: torch.relu(x).square()))
