"""Delta attention whose decay is of every channel (Kimi Linear): the forget gate, beta, the convolutions, the gated norm."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any

import torch

from logitproof.mutations import Mutation, Record
from logitproof.mutations._tensors import Change, SpoiltTensors, WrongTensors, ZeroTensors
from logitproof.reference import parts
from logitproof.reference.patches import attributes_replaced, outputs_changed


def _layers(model: Any) -> list[Any]:
    return [module for module in model.modules() if type(module).__name__.endswith("DeltaAttention")]


class _WrongChannels(Mutation):
    """A bug in such layers."""

    def applies(self, config: Any) -> bool:
        """Models that have them."""
        return bool(_layers(parts.skeleton(config)))


class DecayOfHead(_WrongChannels, id="deltanet.channel_decay_of_head"):
    """The decay is one for each head, as in a gated delta-net, and not one for each channel."""

    record = Record(
        shows="position 0 exact, wrong from position 1 on",
        first_tap="layers.0.linear_attn.core",
        remedy="each channel of a head decays at its own speed",
    )

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        gates = [layer.forget_gate for layer in _layers(model)]
        return outputs_changed(gates, lambda module, _, out: out.mean(-1, keepdim=True).expand_as(out))


class DecayMissing(_WrongChannels, id="deltanet.channel_decay_missing"):
    """The state does not decay."""

    record = Record(
        shows="position 0 exact, wrong from position 1 on",
        first_tap="layers.0.linear_attn.core",
        remedy="multiply the state by exp(g) before each step",
    )

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        return outputs_changed([layer.forget_gate for layer in _layers(model)], lambda module, _, out: torch.zeros_like(out))


class BetaMissing(_WrongChannels, id="deltanet.channel_beta_missing"):
    """Beta, how much of a token is written, is one."""

    record = Record(
        shows="wrong from position 0 on", first_tap="layers.0.linear_attn.core", remedy="beta is the sigmoid of its projection"
    )

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        return outputs_changed([layer.b_proj for layer in _layers(model)], lambda module, _, out: torch.full_like(out, 100.0))


class GateSilu(_WrongChannels, id="deltanet.channel_gate_silu_for_sigmoid"):
    """The output's gate passes SiLU, as in a gated delta-net, in place of a sigmoid."""

    record = Record(
        shows="wrong from position 0 on",
        first_tap="layers.0.linear_attn.norm",
        remedy="the gate's activation is a sigmoid",
        seen_in=("vLLM #40245",),
    )

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        return attributes_replaced([(layer.o_norm, "activation", "silu") for layer in _layers(model)])


class DtBiasMissing(ZeroTensors, id="deltanet.channel_dt_bias_missing"):
    """The bias of the forget gate (dt_bias) is not loaded."""

    record = Record(
        shows="position 0 exact, wrong from position 1 on",
        first_tap="layers.0.linear_attn.core",
        remedy="add dt_bias before softplus",
    )

    def affected(self, model: Any) -> list[torch.Tensor]:
        return [layer.forget_gate.dt_bias for layer in _layers(model)]


class DecayExponentiatedTwice(SpoiltTensors, id="deltanet.channel_a_log_exponentiated_twice"):
    """A_log is exponentiated although the loader did it already."""

    record = Record(
        shows="position 0 exact, wrong from position 1 on",
        first_tap="layers.0.linear_attn.core",
        remedy="the speed is exp(A_log), once",
    )

    def affected(self, model: Any) -> list[torch.Tensor]:
        return [layer.forget_gate.A_log for layer in _layers(model)]

    def spoilt(self, right: torch.Tensor) -> torch.Tensor:
        return right.exp()


class ConvolutionsSwapped(WrongTensors, id="deltanet.channel_convolutions_swapped"):
    """The convolutions of q and of k are mistaken for each other."""

    record = Record(
        shows="wrong from position 0 on", first_tap="layers.0.linear_attn.conv", remedy="q, k and v have a convolution each"
    )

    def changes(self, model: Any) -> Iterable[Change]:
        for layer in _layers(model):
            q, k, v = layer.conv1d.weight.chunk(3)
            yield layer.conv1d.weight, torch.cat([k, q, v])
