"""What Mamba-2 layers are given and call: the scan, over many positions and over one, the convolution, the gated norm."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, ClassVar

import torch

from logitproof.mutations import Mutation
from logitproof.reference import parts
from logitproof.reference.patches import attributes_replaced, replaced_in

SCAN = ("mamba2_chunk_scan", "mamba2_selective_state_update")
CONVOLVE = ("causal_conv1d_fn", "causal_conv1d_update")
OF_MANY = ("x", "dt", "a", "b", "c")
OF_ONE = (*OF_MANY, "d")
Given = dict[str, Any]


class WrongScan(Mutation):
    """A bug in Mamba-2 layers."""

    def applies(self, config: Any) -> bool:
        """Models with Mamba-2 layers."""
        return bool(parts.scans(parts.skeleton(config)))


class WrongScanCall(WrongScan):
    """A function of the layers that does something else: subclasses name it in `functions` and wrap it in `instead_of`."""

    functions: ClassVar[tuple[str, ...]]

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Have every layer call the wrong function."""
        return replaced_in(parts.scans(model), self.functions, self.instead_of)

    def instead_of(self, layer: Any, original: Callable[..., Any]) -> Callable[..., Any]:
        """The wrong function for the right one of a layer."""
        raise NotImplementedError


class WrongScanInput(WrongScanCall):
    """A bug in what the scan gets: subclasses say in `given` which of its arguments are others, and what they are."""

    functions: ClassVar[tuple[str, ...]] = SCAN

    def given(self, right: Given) -> Given:
        """The wrong arguments for the right ones, over many positions or one.

        x [B, T, H, P] or [B, H, P]; dt [B, T, H] or [B, H, P]; a [H] or [H, P, N]; b and c [B, T, G, N] or [B, G, N];
        d and dt_bias [H] or [H, P]; dt_softplus.
        """
        raise NotImplementedError

    def instead_of(self, layer: Any, original: Callable[..., Any]) -> Callable[..., Any]:
        """The scan with other arguments; the state comes before all others where it is for one position."""

        def scan(*args: Any, **named: Any) -> Any:
            state, names = (args[:1], OF_ONE) if len(args) > len(OF_MANY) else ((), OF_MANY)
            right = dict(zip(names, args[len(state) :], strict=True))
            right |= {"dt_bias": named["dt_bias"], "dt_softplus": named["dt_softplus"]}
            if "d" not in right:
                right["d"] = named["D"]
            wrong = right | self.given(right)
            named |= {"dt_bias": wrong["dt_bias"], "dt_softplus": wrong["dt_softplus"]}
            if names is OF_MANY:
                named["D"] = wrong["d"]
            return original(*state, *(wrong[name] for name in names), **named)

        return scan


class WrongScanNorm(WrongScan):
    """A bug in the norm and the gate of the output: subclasses say in `gated` what comes out."""

    def applies(self, config: Any) -> bool:
        """Models whose scans have such a norm."""
        return bool(self._norms(parts.skeleton(config)))

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Replace the forward of every layer's norm."""
        return attributes_replaced([(norm, "forward", functools.partial(self._forward, norm)) for norm in self._norms(model)])

    def gated(self, norm: Any, x: torch.Tensor, gate: torch.Tensor) -> torch.Tensor:
        """What becomes of the output x [..., I] and its gate, both float32."""
        raise NotImplementedError

    def _norms(self, model: Any) -> list[Any]:
        return [scan.norm for scan in parts.scans(model) if hasattr(scan._modules.get("norm"), "group_size")]

    def _forward(self, norm: Any, x: torch.Tensor, gate: torch.Tensor) -> torch.Tensor:
        return self.gated(norm, x.float(), gate.float()).to(x.dtype)


def steps(right: Given) -> torch.Tensor:
    """The sizes of the steps as they should be, of the shape of dt."""
    return torch.nn.functional.softplus(right["dt"] + right["dt_bias"].to(right["dt"].dtype))


def divided(norm: Any, x: torch.Tensor, size: int) -> torch.Tensor:
    """x [..., I] over the root mean square of each `size` channels, times the weight."""
    groups = x.unflatten(-1, (-1, size))
    normed = groups * torch.rsqrt(groups.square().mean(-1, keepdim=True) + norm.variance_epsilon)
    return normed.flatten(-2) * norm.weight
