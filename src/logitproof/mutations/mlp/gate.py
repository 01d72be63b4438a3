"""What is made of gate and up before the down projection."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from logitproof.mutations import Record
from logitproof.mutations.mlp._gate import WrongGate


class GateMissing(WrongGate, id="mlp.gate_missing"):
    """The gate is left out of the MLP, as in the plain down(act(up)) of older models."""

    record = Record(
        shows="wrong from the first MLP on, at every position",
        first_tap="layers.0.mlp.activation",
        remedy="multiply up by the activated gate",
        seen_in=("timesfm #493",),
    )

    def combined(self, gate: torch.Tensor, up: torch.Tensor, activation: Callable[..., Any]) -> Any:
        return activation(up)


class UpMissing(WrongGate, id="mlp.up_missing"):
    """The up projection is left out of the MLP: down(act(gate)) without the product."""

    record = Record(
        shows="wrong from the first MLP on, at every position",
        first_tap="layers.0.mlp.activation",
        remedy="multiply the activated gate by up",
        seen_in=("timesfm #493",),
    )

    def combined(self, gate: torch.Tensor, up: torch.Tensor, activation: Callable[..., Any]) -> Any:
        return activation(gate)


class GatePlusUp(WrongGate, id="mlp.gate_plus_up"):
    """The activated gate is added to up instead of multiplied."""

    record = Record(
        shows="wrong from the first MLP on, at every position",
        first_tap="layers.0.mlp.activation",
        remedy="multiply the activated gate by up",
    )

    def combined(self, gate: torch.Tensor, up: torch.Tensor, activation: Callable[..., Any]) -> Any:
        return activation(gate) + up


class ActivationOnBoth(WrongGate, id="mlp.activation_on_both"):
    """The activation is applied to gate and up both."""

    record = Record(
        shows="wrong from the first MLP on, at every position",
        first_tap="layers.0.mlp.activation",
        remedy="apply the activation to the gate only",
    )

    def combined(self, gate: torch.Tensor, up: torch.Tensor, activation: Callable[..., Any]) -> Any:
        return activation(gate) * activation(up)


class ActivationOnProduct(WrongGate, id="mlp.activation_on_product"):
    """The activation is applied to the product of gate and up, not to the gate."""

    record = Record(
        shows="wrong from the first MLP on, at every position",
        first_tap="layers.0.mlp.activation",
        remedy="apply the activation to the gate, then multiply",
        seen_in=("breakdown-minimind #3", "matformer #4"),
    )

    def combined(self, gate: torch.Tensor, up: torch.Tensor, activation: Callable[..., Any]) -> Any:
        return activation(gate * up)
