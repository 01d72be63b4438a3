"""A_log is exponentiated twice."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

from logitproof.mutations import Mutation
from logitproof.mutations.deltanet._rule import has_delta_net
from logitproof.reference import parts
from logitproof.reference.patches import tensors_replaced


@dataclass
class ALogExponentiatedTwice(Mutation):
    """A_log, already exponentiated by the converter, is exponentiated again."""

    bug: ClassVar[str] = "A_log is exponentiated twice"
    shows: ClassVar[str] = "position 0 exact, the state forgets almost at once"
    seen_in: ClassVar[tuple[str, ...]] = ("1bit-MONSTER #1460",)
    first_tap: ClassVar[str] = "layers.0.linear_attn.core"
    remedy: ClassVar[str] = "exponentiate A_log once, in the converter or in the engine"

    def applies(self, config: Any) -> bool:
        """Models with gated delta-net layers."""
        return has_delta_net(config)

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Change the tensor of every gated delta-net layer."""
        nets = parts.delta_nets(model)
        return tensors_replaced([(one.A_log, one.A_log.data.exp()) for one in nets])
