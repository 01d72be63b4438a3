"""The convolution's window is one too short."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

from torch.nn import functional

from logitproof.mutations import Mutation
from logitproof.mutations.deltanet._rule import has_delta_net
from logitproof.reference import parts
from logitproof.reference.patches import tensors_replaced


@dataclass
class ConvWindowShort(Mutation):
    """The oldest tap of the window is lost."""

    bug: ClassVar[str] = "the convolution's window is one too short"
    shows: ClassVar[str] = "exact until the window is full, wrong after"
    seen_in: ClassVar[tuple[str, ...]] = ()
    first_tap: ClassVar[str] = "layers.0.linear_attn.conv"
    remedy: ClassVar[str] = "keep conv_kernel - 1 earlier tokens"

    def applies(self, config: Any) -> bool:
        """Models with gated delta-net layers."""
        return has_delta_net(config)

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Change the tensor of every gated delta-net layer."""
        kernels = [net.conv1d.weight for net in parts.delta_nets(model)]
        return tensors_replaced([(one, functional.pad(one.data[..., 1:], (1, 0))) for one in kernels])
