"""The norm and the gate of the output."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, ClassVar

import torch
from torch.nn import functional

from logitproof.mutations import Record
from logitproof.mutations.deltanet._rule import WrongDeltaNet, WrongGatedNorm, divided
from logitproof.reference import parts
from logitproof.reference.patches import attributes_replaced


class _WrongActivation(WrongDeltaNet):
    """Another activation of the gate, by its name in transformers."""

    activation: ClassVar[str]

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Name it in every layer's norm."""
        return attributes_replaced([(net.norm, "activation", self.activation) for net in parts.delta_nets(model)])


class GateMissing(WrongGatedNorm, id="deltanet.gate_missing"):
    """The output gate is left out: the output is normalized but not gated."""

    record = Record(
        shows="wrong from position 0 on",
        first_tap="layers.0.linear_attn.norm",
        remedy="multiply the normalized output by silu(z)",
    )

    def gated(self, norm: Any, x: torch.Tensor, gate: torch.Tensor) -> torch.Tensor:
        return torch.as_tensor(norm.weight * divided(norm, x))


class NormMissing(WrongGatedNorm, id="deltanet.norm_missing"):
    """The norm of the output is left out: the output is gated but not normalized."""

    record = Record(
        shows="wrong from position 0 on",
        first_tap="layers.0.linear_attn.norm",
        remedy="normalize each value head before the gate",
    )

    def gated(self, norm: Any, x: torch.Tensor, gate: torch.Tensor) -> torch.Tensor:
        return torch.as_tensor(norm.weight * x * functional.silu(gate))


class NormAfterGate(WrongGatedNorm, id="deltanet.norm_after_gate"):
    """The norm stands after the gate, as in Mamba 2, not before it."""

    record = Record(
        shows="wrong from position 0 on",
        first_tap="layers.0.linear_attn.norm",
        remedy="normalize first, then gate",
    )

    def gated(self, norm: Any, x: torch.Tensor, gate: torch.Tensor) -> torch.Tensor:
        return torch.as_tensor(norm.weight * divided(norm, x * functional.silu(gate)))


class GateActivationMissing(_WrongActivation, id="deltanet.gate_activation_missing"):
    """The output gate is used without its SiLU."""

    record = Record(
        shows="wrong from position 0 on",
        first_tap="layers.0.linear_attn.norm",
        remedy="use SiLU for the gate z",
    )
    activation = "linear"


class GateSigmoidForSilu(_WrongActivation, id="deltanet.gate_sigmoid_for_silu"):
    """The output gate uses a sigmoid instead of SiLU."""

    record = Record(
        shows="wrong from position 0 on",
        first_tap="layers.0.linear_attn.norm",
        remedy="use SiLU for the gate z",
    )
    activation = "sigmoid"
