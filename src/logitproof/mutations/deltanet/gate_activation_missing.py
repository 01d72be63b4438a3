"""The output gate lacks its activation."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

from logitproof.mutations import Mutation
from logitproof.mutations.deltanet._rule import has_delta_net
from logitproof.reference import parts
from logitproof.reference.patches import attributes_replaced


@dataclass
class GateActivationMissing(Mutation):
    """The output gate is used without its SiLU."""

    bug: ClassVar[str] = "the output gate lacks its activation"
    shows: ClassVar[str] = "wrong from position 0 on"
    seen_in: ClassVar[tuple[str, ...]] = ()
    first_tap: ClassVar[str] = "layers.0.linear_attn.norm"
    remedy: ClassVar[str] = "use SiLU for the gate z"

    def applies(self, config: Any) -> bool:
        """Models with gated delta-net layers."""
        return has_delta_net(config)

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Plant the bug in every layer of `model`."""
        return attributes_replaced([(one.norm, "activation", "linear") for one in parts.delta_nets(model)])
