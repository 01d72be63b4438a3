"""Another activation than the one that the model was trained with."""

from __future__ import annotations

import torch
from torch import nn

from logitproof.mutations import Record, swept
from logitproof.mutations.mlp._gate import Activation, WrongActivation


class ActivationMissing(WrongActivation, id="mlp.activation_missing"):
    """The activation of the gate is left out."""

    record = Record(
        shows="wrong from the first MLP on, at every position, the output far too large",
        first_tap="layers.0.mlp.activation",
        remedy="apply `hidden_act` to the gate before the product",
    )

    def activation(self) -> nn.Module:
        return nn.Identity()


class GeluForSilu(WrongActivation, id="mlp.gelu_for_silu"):
    """The MLP uses GELU instead of SiLU."""

    record = Record(
        shows="wrong from the first MLP on, at every position, cosine of the MLP near 0.95",
        first_tap="layers.0.mlp.activation",
        remedy="read `hidden_act` of the config",
        seen_in=("candle #3745", "candle #3747", "TRT-Model-Connect #177"),
    )
    meant = ("silu", "swish")
    approximate: str = swept("none", grid=("none", "tanh"))

    def activation(self) -> nn.Module:
        return nn.GELU(self.approximate)


class QuickGeluForSilu(WrongActivation, id="mlp.quick_gelu_for_silu"):
    """The MLP uses x·sigmoid(1.702·x), the fast form of GELU, instead of SiLU."""

    record = Record(
        shows="wrong from the first MLP on, at every position",
        first_tap="layers.0.mlp.activation",
        remedy="use the factor 1.702 only where the config says so",
        seen_in=("onnxruntime #28738",),
    )
    meant = ("silu", "swish")

    def activation(self) -> nn.Module:
        return Activation(lambda x: x * torch.sigmoid(1.702 * x))


class ReluForSilu(WrongActivation, id="mlp.relu_for_silu"):
    """The MLP uses ReLU instead of SiLU."""

    record = Record(
        shows="wrong from the first MLP on, at every position",
        first_tap="layers.0.mlp.activation",
        remedy="read `hidden_act` of the config",
        seen_in=("Megatron-LM #5999",),
    )
    meant = ("silu", "swish")

    def activation(self) -> nn.Module:
        return nn.ReLU()


class ReluSquared(WrongActivation, id="mlp.relu_squared"):
    """The MLP uses the squared ReLU of other families instead of SiLU."""

    record = Record(
        shows="wrong from the first MLP on, at every position",
        first_tap="layers.0.mlp.activation",
        remedy="read `hidden_act` of the config",
    )
    meant = ("silu", "swish")

    def activation(self) -> nn.Module:
        return Activation(lambda x: torch.relu(x).square())


class SigmoidForSilu(WrongActivation, id="mlp.sigmoid_for_silu"):
    """The MLP uses sigmoid(x) instead of x·sigmoid(x)."""

    record = Record(
        shows="wrong from the first MLP on, at every position, the output far too small",
        first_tap="layers.0.mlp.activation",
        remedy="multiply the sigmoid by its argument",
    )
    meant = ("silu", "swish")

    def activation(self) -> nn.Module:
        return nn.Sigmoid()


class SiluForGelu(WrongActivation, id="mlp.silu_for_gelu"):
    """The MLP uses SiLU instead of GELU."""

    record = Record(
        shows="wrong from the first MLP on, at every position, cosine of the MLP near 0.95",
        first_tap="layers.0.mlp.activation",
        remedy="read `hidden_activation` of the config, not only `hidden_act`",
        seen_in=("candle #3745", "candle #3747", "TRT-Model-Connect #177"),
    )
    meant = ("gelu", "gelu_pytorch_tanh")

    def activation(self) -> nn.Module:
        return nn.SiLU()


class GeluExactForTanh(WrongActivation, id="mlp.gelu_exact_for_tanh"):
    """The MLP uses exact GELU, by the error function, instead of the tanh approximation."""

    record = Record(
        shows="small in every layer, about 1e-3, and accumulating",
        first_tap="layers.0.mlp.activation",
        remedy="use the tanh form for `gelu_pytorch_tanh`",
        seen_in=("vLLM #41574", "vLLM #56839", "mistral.rs #1867"),
    )
    meant = ("gelu_pytorch_tanh",)

    def activation(self) -> nn.Module:
        return nn.GELU()


class GeluTanhForExact(WrongActivation, id="mlp.gelu_tanh_for_exact"):
    """The MLP uses the tanh approximation instead of exact GELU, by the error function."""

    record = Record(
        shows="small in every layer, about 1e-3, and accumulating",
        first_tap="layers.0.mlp.activation",
        remedy="use the error function for `gelu`",
        seen_in=("vLLM #41574", "vLLM #56839", "mistral.rs #1867"),
    )
    meant = ("gelu",)

    def activation(self) -> nn.Module:
        return nn.GELU(approximate="tanh")
