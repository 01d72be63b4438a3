"""The MLP uses exact GELU instead of the tanh approximation."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import nn

from logitproof.mutations import Mutation
from logitproof.mutations.mlp._gate import activation_of, activations_replaced


@dataclass
class GeluExactForTanh(Mutation):
    """GELU by the error function where the model means its tanh approximation."""

    bug: ClassVar[str] = "the MLP uses exact GELU instead of the tanh approximation"
    shows: ClassVar[str] = "small in every layer, about 1e-3, and accumulating"
    seen_in: ClassVar[tuple[str, ...]] = ("vLLM #41574", "vLLM #56839", "mistral.rs #1867")
    first_tap: ClassVar[str] = "layers.0.mlp.activation"
    remedy: ClassVar[str] = "use the tanh form for `gelu_pytorch_tanh`"

    def applies(self, config: Any) -> bool:
        """Gated MLPs with the activation that is mistaken."""
        return activation_of(config) == "gelu_pytorch_tanh"

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Give every gated MLP the wrong activation."""
        return activations_replaced(model, nn.GELU())
