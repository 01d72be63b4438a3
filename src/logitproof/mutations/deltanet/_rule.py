"""What gated delta-net layers are given and call: the rule, in chunks and token by token, the convolution, the gated norm."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, ClassVar

import torch

from logitproof.mutations import Mutation
from logitproof.reference import parts
from logitproof.reference.patches import CHUNKED, RECURRENT, attributes_replaced, replaced


class WrongDeltaNet(Mutation):
    """A bug in gated delta-net layers."""

    def applies(self, config: Any) -> bool:
        """Models with gated delta-net layers of the known kind."""
        return config.model_type in parts.GATED_DELTA_NETS and bool(parts.delta_nets(parts.skeleton(config)))


class WrongCall(WrongDeltaNet):
    """A function of the layers that does something else: subclasses name it in `functions` and wrap it in `instead_of`."""

    functions: ClassVar[tuple[str, ...]]

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Have every layer call the wrong function."""
        return replaced(model, self.functions, self.instead_of)

    def instead_of(self, layer: Any, original: Callable[..., Any]) -> Callable[..., Any]:
        """The wrong function for the right one of a layer."""
        raise NotImplementedError


class WrongRule(WrongCall):
    """A bug in what the rule gets: subclasses say in `given` which of its arguments are others, and what they are."""

    functions: ClassVar[tuple[str, ...]] = (CHUNKED, RECURRENT)

    def given(self, layer: Any, right: dict[str, Any]) -> dict[str, Any]:
        """The wrong arguments for the right ones.

        Arguments: query and key [1, T, K, D], value [1, T, H, D], g and beta [1, T, H], initial_state [1, H, D, D] or None.
        """
        raise NotImplementedError

    def instead_of(self, layer: Any, original: Callable[..., Any]) -> Callable[..., Any]:
        """The rule with other arguments."""

        def rule(query: Any, key: Any, value: Any, **options: Any) -> Any:
            right = {"query": query, "key": key, "value": value, **options}
            return original(**{**right, **self.given(layer, right)})

        return rule


class WrongGatedNorm(WrongDeltaNet):
    """A bug in the norm and the gate of the output: subclasses say in `gated` what comes out."""

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Replace the forward of every layer's norm."""
        norms = [net.norm for net in parts.delta_nets(model)]
        return attributes_replaced([(norm, "forward", functools.partial(self._forward, norm)) for norm in norms])

    def gated(self, norm: Any, x: torch.Tensor, gate: torch.Tensor) -> torch.Tensor:
        """What becomes of the output x [..., D] and its gate, both float32."""
        raise NotImplementedError

    def _forward(self, norm: Any, x: torch.Tensor, gate: torch.Tensor) -> torch.Tensor:
        return self.gated(norm, x.float(), gate.float()).to(x.dtype)


def divided(norm: Any, x: torch.Tensor) -> torch.Tensor:
    """x [..., D] over its root mean square."""
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + norm.variance_epsilon)
