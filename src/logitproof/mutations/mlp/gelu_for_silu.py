"""The MLP uses GELU instead of SiLU."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import nn

from logitproof.mutations import Mutation
from logitproof.mutations.mlp._gate import activation_of, activations_replaced


@dataclass
class GeluForSilu(Mutation):
    """GELU where the model means SiLU."""

    bug: ClassVar[str] = "the MLP uses GELU instead of SiLU"
    shows: ClassVar[str] = "wrong from the first MLP on, at every position, cosine of the MLP near 0.95"
    seen_in: ClassVar[tuple[str, ...]] = ("candle #3745", "candle #3747", "TRT-Model-Connect #177")
    first_tap: ClassVar[str] = "layers.0.mlp.activation"
    remedy: ClassVar[str] = "read `hidden_act` of the config"
    grid: ClassVar[dict[str, tuple[Any, ...]]] = {"approximate": ("none", "tanh")}

    approximate: str = "none"

    def applies(self, config: Any) -> bool:
        """Gated MLPs with the activation that is mistaken."""
        return activation_of(config) in ("silu", "swish")

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Give every gated MLP the wrong activation."""
        return activations_replaced(model, nn.GELU(self.approximate))
