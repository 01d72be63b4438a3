"""The MLP uses sigmoid(x) instead of x·sigmoid(x)."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import nn

from logitproof.mutations import Mutation
from logitproof.mutations.mlp._gate import activation_of, activations_replaced


@dataclass
class SigmoidForSilu(Mutation):
    """The sigmoid alone, without the factor x."""

    bug: ClassVar[str] = "the MLP uses sigmoid(x) instead of x·sigmoid(x)"
    shows: ClassVar[str] = "wrong from the first MLP on, at every position, the output far too small"
    seen_in: ClassVar[tuple[str, ...]] = ()
    first_tap: ClassVar[str] = "layers.0.mlp.activation"
    remedy: ClassVar[str] = "multiply the sigmoid by its argument"

    def applies(self, config: Any) -> bool:
        """Gated MLPs with the activation that is mistaken."""
        return activation_of(config) in ("silu", "swish")

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Give every gated MLP the wrong activation."""
        return activations_replaced(model, nn.Sigmoid())
