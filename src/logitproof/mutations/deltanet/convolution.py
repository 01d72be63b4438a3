"""The short convolution before the rule: its taps, its activation, its state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

from logitproof.mutations import Record
from logitproof.mutations._tensors import SpoiltTensors
from logitproof.mutations.deltanet._rule import WrongCall, WrongDeltaNet
from logitproof.reference import parts


class _WrongTaps(WrongDeltaNet, SpoiltTensors):
    """The taps of the convolution [C, 1, K], the newest last."""

    def affected(self, model: Any) -> list[torch.Tensor]:
        """The kernel of every layer."""
        return [net.conv1d.weight for net in parts.delta_nets(model)]


class ConvReversed(_WrongTaps, id="deltanet.conv_reversed"):
    """The convolution's taps are reversed, as in a mathematical convolution."""

    record = Record(
        shows="wrong from position 0 on",
        first_tap="layers.0.linear_attn.conv",
        remedy="the last tap belongs to the token itself",
    )

    def spoilt(self, right: torch.Tensor) -> torch.Tensor:
        return right.flip(-1)


class ConvWindowShort(_WrongTaps, id="deltanet.conv_window_short"):
    """The convolution's window is one too short: its oldest tap is lost."""

    record = Record(
        shows="exact until the window is full, wrong after",
        first_tap="layers.0.linear_attn.conv",
        remedy="keep conv_kernel - 1 earlier tokens",
    )

    def spoilt(self, right: torch.Tensor) -> torch.Tensor:
        return functional.pad(right[..., 1:], (1, 0))


class ConvWindowShifted(_WrongTaps, id="deltanet.conv_window_shifted"):
    """The convolution's window is shifted by one: it ends one token too early and does not see the token itself."""

    record = Record(
        shows="wrong from position 0 on",
        first_tap="layers.0.linear_attn.conv",
        remedy="the last tap belongs to the token itself",
    )

    def spoilt(self, right: torch.Tensor) -> torch.Tensor:
        return functional.pad(right[..., 1:], (0, 1))


class ConvActivationMissing(WrongCall, id="deltanet.conv_activation_missing"):
    """The activation (SiLU) after the convolution is left out."""

    record = Record(
        shows="wrong from position 0 on",
        first_tap="layers.0.linear_attn.conv",
        remedy="apply SiLU after the convolution",
        seen_in=("llmman #16",),
    )
    functions = ("causal_conv1d_fn", "causal_conv1d_update")

    def instead_of(self, layer: Any, original: Callable[..., Any]) -> Callable[..., Any]:
        def convolve(*tensors: Any, **options: Any) -> Any:
            # the update takes the activation as its fifth positional argument
            return original(*tensors[:4], **{**options, "activation": None})

        return convolve


class ConvStateEarly(WrongCall, id="deltanet.conv_state_early"):
    """The convolution's state lacks the newest token: it is stored before the token of the step before is in it."""

    record = Record(
        shows="prefill exact, decode wrong from position 1 on",
        first_tap="layers.0.linear_attn.conv",
        remedy="store the state after the token was added",
        needs="decode",
        seen_in=("vLLM #34587", "transformers #46190"),
    )
    functions = ("causal_conv1d_update",)

    def instead_of(self, layer: Any, original: Callable[..., Any]) -> Callable[..., Any]:
        def update(x: torch.Tensor, state: torch.Tensor, *rest: Any) -> Any:
            late = state.roll(1, -1)
            out = original(x, late, *rest)
            state.copy_(torch.cat((state, x), dim=-1)[..., -state.shape[-1] :])
            return out

        return update


class ConvStateNotCarried(WrongCall, id="deltanet.conv_state_not_carried"):
    """The convolution's state is not carried from token to token: in decode it sees only the token itself."""

    record = Record(
        shows="prefill exact, decode wrong from position 1 on",
        first_tap="layers.0.linear_attn.conv",
        remedy="keep the last tokens of the convolution in the cache",
        needs="decode",
        seen_in=("vLLM #34587", "transformers #46190"),
    )
    functions = ("causal_conv1d_update",)

    def instead_of(self, layer: Any, original: Callable[..., Any]) -> Callable[..., Any]:
        def update(x: torch.Tensor, state: torch.Tensor, *rest: Any) -> Any:
            return original(x, state.zero_(), *rest)

        return update
