"""The convolution's taps are reversed."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

from logitproof.mutations import Mutation
from logitproof.mutations.deltanet._rule import has_delta_net
from logitproof.reference import parts
from logitproof.reference.patches import tensors_replaced


@dataclass
class ConvReversed(Mutation):
    """The taps are in reverse order, as in a mathematical convolution."""

    bug: ClassVar[str] = "the convolution's taps are reversed"
    shows: ClassVar[str] = "wrong from position 0 on"
    seen_in: ClassVar[tuple[str, ...]] = ()
    first_tap: ClassVar[str] = "layers.0.linear_attn.conv"
    remedy: ClassVar[str] = "the last tap belongs to the token itself"

    def applies(self, config: Any) -> bool:
        """Models with gated delta-net layers."""
        return has_delta_net(config)

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Change the tensor of every gated delta-net layer."""
        kernels = [net.conv1d.weight for net in parts.delta_nets(model)]
        return tensors_replaced([(one, one.data.flip(-1)) for one in kernels])
