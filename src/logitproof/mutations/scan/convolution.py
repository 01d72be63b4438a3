"""The convolution before a scan: its taps, its bias, its activation, its state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

from logitproof.mutations import Record
from logitproof.mutations._tensors import SpoiltTensors, ZeroTensors
from logitproof.mutations.scan._scan import CONVOLVE, WrongScanCall
from logitproof.reference import parts


class _WrongTaps(SpoiltTensors):
    """The taps of the convolution [C, 1, K], the newest last."""

    def affected(self, model: Any) -> list[torch.Tensor]:
        """The kernel of every layer."""
        return [scan.conv1d.weight for scan in parts.scans(model)]


class ConvReversed(_WrongTaps, id="scan.conv_reversed"):
    """The convolution's taps are reversed, as in a mathematical convolution."""

    record = Record(
        shows="wrong from position 0 on", first_tap="layers.0.scan.conv", remedy="the last tap belongs to the token itself"
    )

    def spoilt(self, right: torch.Tensor) -> torch.Tensor:
        return right.flip(-1)


class ConvWindowShort(_WrongTaps, id="scan.conv_window_short"):
    """The convolution's window is one too short: its oldest tap is lost."""

    record = Record(
        shows="exact until the window is full, wrong after",
        first_tap="layers.0.scan.conv",
        remedy="keep conv_kernel - 1 earlier tokens",
    )

    def spoilt(self, right: torch.Tensor) -> torch.Tensor:
        return functional.pad(right[..., 1:], (1, 0))


class ConvWindowShifted(_WrongTaps, id="scan.conv_window_shifted"):
    """The convolution's window ends one token too early and does not see the token itself."""

    record = Record(
        shows="wrong from position 0 on", first_tap="layers.0.scan.conv", remedy="the last tap belongs to the token itself"
    )

    def spoilt(self, right: torch.Tensor) -> torch.Tensor:
        return functional.pad(right[..., 1:], (0, 1))


class ConvBiasMissing(ZeroTensors, id="scan.conv_bias_missing"):
    """The convolution's bias is not loaded."""

    record = Record(shows="wrong from position 0 on", first_tap="layers.0.scan.conv", remedy="load conv1d.bias")

    def affected(self, model: Any) -> list[torch.Tensor]:
        return [scan.conv1d.bias for scan in parts.scans(model) if scan.conv1d.bias is not None]


class _WrongConvolution(WrongScanCall):
    """Another convolution than the layer's own: subclasses say in `convolved`."""

    functions = CONVOLVE

    def instead_of(self, layer: Any, original: Callable[..., Any]) -> Callable[..., Any]:
        def convolve(x: torch.Tensor, *rest: Any, **named: Any) -> Any:
            return self.convolved(layer, original, x, *rest, **named)

        return convolve

    def convolved(self, layer: Any, right: Callable[..., Any], x: torch.Tensor, *rest: Any, **named: Any) -> Any:
        """x [B, C, T] of x, B and C, one after the other."""
        raise NotImplementedError


class ConvActivationMissing(_WrongConvolution, id="scan.conv_activation_missing"):
    """The activation (SiLU) after the convolution is left out."""

    record = Record(shows="wrong from position 0 on", first_tap="layers.0.scan.conv", remedy="apply SiLU after the convolution")

    def convolved(self, layer: Any, right: Callable[..., Any], x: torch.Tensor, *rest: Any, **named: Any) -> Any:
        return right(x, *rest, **{**named, "activation": None})


class ConvOfInputAlone(_WrongConvolution, id="scan.conv_of_input_alone"):
    """B and C pass the convolution by: only x is convolved."""

    record = Record(
        shows="wrong from position 0 on", first_tap="layers.0.scan.conv", remedy="x, B and C pass the convolution together"
    )

    def convolved(self, layer: Any, right: Callable[..., Any], x: torch.Tensor, *rest: Any, **named: Any) -> Any:
        out = right(x, *rest, **named)
        inner = layer.conv1d.weight.shape[0] - 2 * layer.n_groups * layer.ssm_state_size
        return torch.cat([out[:, :inner], x[:, inner:]], dim=1)


class _WrongUpdate(WrongScanCall):
    """The convolution over one token and its state [B, C, K - 1]."""

    needs = "decode"
    functions = CONVOLVE[1:]


class ConvStateNotCarried(_WrongUpdate, id="scan.conv_state_not_carried"):
    """The convolution's state is not carried from token to token: in decode it sees only the token itself."""

    record = Record(
        shows="prefill exact, decode wrong from position 1 on",
        first_tap="layers.0.scan.conv",
        remedy="keep the last tokens in the cache",
    )

    def instead_of(self, layer: Any, original: Callable[..., Any]) -> Callable[..., Any]:
        def update(x: torch.Tensor, state: torch.Tensor, *rest: Any, **named: Any) -> Any:
            return original(x, state.zero_(), *rest, **named)

        return update


class ConvStateLate(_WrongUpdate, id="scan.conv_state_late"):
    """The convolution's state is one token old: the newest one is not in it yet."""

    record = Record(
        shows="prefill exact, decode wrong from position 1 on",
        first_tap="layers.0.scan.conv",
        remedy="store the state after the token was added",
    )

    def instead_of(self, layer: Any, original: Callable[..., Any]) -> Callable[..., Any]:
        def update(x: torch.Tensor, state: torch.Tensor, *rest: Any, **named: Any) -> Any:
            late = state.roll(1, -1)
            out = original(x, late, *rest, **named)
            state.copy_(torch.cat((state, x), dim=-1)[..., -state.shape[-1] :])
            return out

        return update
