"""Gated short convolutions: the gates before and after, the taps between them, the state."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, ClassVar

import torch
from torch.nn import functional

from logitproof.mutations import Mutation, Record
from logitproof.mutations._tensors import SpoiltTensors
from logitproof.reference import parts
from logitproof.reference.patches import outputs_changed, replaced_in

Three = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


class _WrongGates(Mutation):
    """The three parts of the projection [..., 3E]: the gate before, the gate after, and the input; said in `parted`."""

    def applies(self, config: Any) -> bool:
        """Models with short convolutions."""
        return bool(parts.short_convolutions(parts.skeleton(config)))

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Change what the projections return."""
        projections = [layer.in_proj for layer in parts.short_convolutions(model)]
        return outputs_changed(projections, lambda module, _, out: torch.cat(self.parted(*out.chunk(3, dim=-1)), dim=-1))

    def parted(self, before: torch.Tensor, after: torch.Tensor, x: torch.Tensor) -> Three:
        """The wrong parts for the right ones."""
        raise NotImplementedError


class GatesSwapped(_WrongGates, id="shortconv.gates_swapped"):
    """The gate before the convolution and the one after it are mistaken for each other."""

    record = Record(
        shows="position 0 exact, wrong from position 1 on",
        first_tap="layers.0.shortconv.conv",
        remedy="the projection holds B, C, x: B before, C after",
    )

    def parted(self, before: torch.Tensor, after: torch.Tensor, x: torch.Tensor) -> Three:
        return after, before, x


class InputFirst(_WrongGates, id="shortconv.input_first"):
    """The projection is read as x, B, C."""

    record = Record(
        shows="wrong from position 0 on",
        first_tap="layers.0.shortconv.conv",
        remedy="the projection holds B, C, x in this order",
    )

    def parted(self, before: torch.Tensor, after: torch.Tensor, x: torch.Tensor) -> Three:
        return after, x, before


class GateBeforeMissing(_WrongGates, id="shortconv.gate_before_missing"):
    """The input is not gated before the convolution."""

    record = Record(shows="wrong from position 0 on", first_tap="layers.0.shortconv.conv", remedy="convolve B * x")

    def parted(self, before: torch.Tensor, after: torch.Tensor, x: torch.Tensor) -> Three:
        return torch.ones_like(before), after, x


class GateAfterMissing(_WrongGates, id="shortconv.gate_after_missing"):
    """The output of the convolution is not gated."""

    record = Record(
        shows="wrong from position 0 on", first_tap="layers.0.shortconv.gated", remedy="multiply the convolution's output by C"
    )

    def parted(self, before: torch.Tensor, after: torch.Tensor, x: torch.Tensor) -> Three:
        return before, torch.ones_like(after), x


class GatesActivated(_WrongGates, id="shortconv.gates_activated"):
    """The gates pass a sigmoid, as gates of other families do."""

    record = Record(
        shows="wrong from position 0 on", first_tap="layers.0.shortconv.conv", remedy="the gates have no activation"
    )

    def parted(self, before: torch.Tensor, after: torch.Tensor, x: torch.Tensor) -> Three:
        return before.sigmoid(), after.sigmoid(), x


class _WrongTaps(SpoiltTensors):
    """The taps of the convolution [E, 1, K], the newest last."""

    def affected(self, model: Any) -> list[torch.Tensor]:
        """The kernel of every layer."""
        return [layer.conv.weight for layer in parts.short_convolutions(model)]


class TapsReversed(_WrongTaps, id="shortconv.taps_reversed"):
    """The convolution's taps are reversed, as in a mathematical convolution."""

    record = Record(
        shows="wrong from position 0 on", first_tap="layers.0.shortconv.conv", remedy="the last tap belongs to the token itself"
    )

    def spoilt(self, right: torch.Tensor) -> torch.Tensor:
        return right.flip(-1)


class WindowShort(_WrongTaps, id="shortconv.window_short"):
    """The window is one too short: its oldest tap is lost."""

    record = Record(
        shows="exact until the window is full, wrong after",
        first_tap="layers.0.shortconv.conv",
        remedy="keep conv_L_cache - 1 earlier tokens",
    )

    def spoilt(self, right: torch.Tensor) -> torch.Tensor:
        return functional.pad(right[..., 1:], (1, 0))


class WindowShifted(_WrongTaps, id="shortconv.window_shifted"):
    """The window ends one token too early: it is padded on the wrong side."""

    record = Record(shows="wrong from position 0 on", first_tap="layers.0.shortconv.conv", remedy="pad on the left by K - 1")

    def spoilt(self, right: torch.Tensor) -> torch.Tensor:
        return functional.pad(right[..., 1:], (0, 1))


class _WrongCall(Mutation):
    """Another convolution than the layer's own: subclasses name the function and wrap it."""

    functions: ClassVar[tuple[str, ...]]

    def applies(self, config: Any) -> bool:
        """Models with short convolutions."""
        return bool(parts.short_convolutions(parts.skeleton(config)))

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Have every layer call the wrong function."""
        return replaced_in(parts.short_convolutions(model), self.functions, self.instead_of)

    def instead_of(self, layer: Any, original: Callable[..., Any]) -> Callable[..., Any]:
        """The wrong function for the right one."""
        raise NotImplementedError


class ActivationInvented(_WrongCall, id="shortconv.activation_invented"):
    """SiLU is applied after the convolution, as in Mamba."""

    record = Record(
        shows="wrong from position 0 on", first_tap="layers.0.shortconv.conv", remedy="the convolution has no activation"
    )
    functions = ("causal_conv1d_fn", "causal_conv1d_update")

    def instead_of(self, layer: Any, original: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *args, **named: functional.silu(original(*args, **named))


class StateNotCarried(_WrongCall, id="shortconv.state_not_carried"):
    """The state is not carried from token to token: in decode the convolution sees only the token itself."""

    record = Record(
        shows="prefill exact, decode wrong from position 1 on",
        first_tap="layers.0.shortconv.conv",
        remedy="keep the last K - 1 gated inputs",
        needs="decode",
    )
    functions = ("causal_conv1d_update",)

    def instead_of(self, layer: Any, original: Callable[..., Any]) -> Callable[..., Any]:
        return lambda x, state, *rest, **named: original(x, state.zero_(), *rest, **named)


class StateLate(_WrongCall, id="shortconv.state_late"):
    """The state is one token old: the newest one is not in it yet."""

    record = Record(
        shows="prefill exact, decode wrong from position 1 on",
        first_tap="layers.0.shortconv.conv",
        remedy="shift the state before the token is added",
        needs="decode",
    )
    functions = ("causal_conv1d_update",)

    def instead_of(self, layer: Any, original: Callable[..., Any]) -> Callable[..., Any]:
        def update(x: torch.Tensor, state: torch.Tensor, *rest: Any, **named: Any) -> Any:
            out = original(x, state.roll(1, -1), *rest, **named)
            state.copy_(torch.cat((state, x), dim=-1)[..., -state.shape[-1] :])
            return out

        return update
