"""dt_bias is added twice."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

from logitproof.mutations import Mutation
from logitproof.mutations.deltanet._rule import has_delta_net
from logitproof.reference import parts
from logitproof.reference.patches import tensors_replaced


@dataclass
class DtBiasTwice(Mutation):
    """The bias of the time step is added by two functions."""

    bug: ClassVar[str] = "dt_bias is added twice"
    shows: ClassVar[str] = "position 0 exact, all decays wrong"
    seen_in: ClassVar[tuple[str, ...]] = ("mlx-lm #1153",)
    first_tap: ClassVar[str] = "layers.0.linear_attn.core"
    remedy: ClassVar[str] = "add dt_bias once"

    def applies(self, config: Any) -> bool:
        """Models with gated delta-net layers."""
        return has_delta_net(config)

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Change the tensor of every gated delta-net layer."""
        nets = parts.delta_nets(model)
        return tensors_replaced([(one.dt_bias, 2 * one.dt_bias.data) for one in nets])
