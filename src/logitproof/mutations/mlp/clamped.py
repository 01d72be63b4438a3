"""The clamped gate of GPT-OSS: (up + 1) · gate · sigmoid(alpha · gate), gate at most and up within a limit."""

from __future__ import annotations

import functools
from contextlib import AbstractContextManager
from typing import Any

import torch

from logitproof.mutations import Mutation, Record
from logitproof.reference import parts
from logitproof.reference.patches import attributes_replaced


class _WrongClampedGate(Mutation):
    """A bug in that formula: subclasses say in `gated` what it is instead."""

    def applies(self, config: Any) -> bool:
        """GPT-OSS."""
        return config.model_type == "gpt_oss"

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Replace the gate of every layer's experts."""

        def wrong(experts: Any, gate_up: torch.Tensor) -> Any:
            return self.gated(experts, gate_up[..., ::2], gate_up[..., 1::2])

        return attributes_replaced([(gated, "_apply_gate", functools.partial(wrong, gated)) for gated in parts.experts(model)])

    def gated(self, experts: Any, gate: torch.Tensor, up: torch.Tensor) -> Any:
        """What goes into the down projection, for gate and up [..., F]; `experts` has `limit` and `alpha`."""
        raise NotImplementedError


class SwigluLimitMissing(_WrongClampedGate, id="mlp.swiglu_limit_missing"):
    """The limit of the clamped SwiGLU is left out: gate and up are not clamped."""

    record = Record(
        shows="only where gate or up is beyond the limit: tails, rare positions",
        first_tap="layers.0.mlp.activation",
        remedy="clamp gate and up to `swiglu_limit`",
        needs="outliers",
        seen_in=("transformers #40197",),
    )

    def gated(self, experts: Any, gate: torch.Tensor, up: torch.Tensor) -> Any:
        return (up + 1) * gate * torch.sigmoid(gate * experts.alpha)


class GateClampedBelow(_WrongClampedGate, id="mlp.gate_clamped_below"):
    """The gate of the clamped SwiGLU, which has only an upper limit, is clamped from below as well."""

    record = Record(
        shows="only where the gate is far below zero: tails, rare positions",
        first_tap="layers.0.mlp.activation",
        remedy="clamp the gate from above only",
        needs="outliers",
    )

    def gated(self, experts: Any, gate: torch.Tensor, up: torch.Tensor) -> Any:
        gate, up = gate.clamp(-experts.limit, experts.limit), up.clamp(-experts.limit, experts.limit)
        return (up + 1) * gate * torch.sigmoid(gate * experts.alpha)


class SwigluAlphaMissing(_WrongClampedGate, id="mlp.swiglu_alpha_missing"):
    """The factor alpha in the sigmoid of GPT-OSS's gate is left out."""

    record = Record(
        shows="wrong from the first MLP on, at every position",
        first_tap="layers.0.mlp.activation",
        remedy="use sigmoid(alpha·gate)",
        seen_in=("sgl-project/DeepGEMM #87",),
    )

    def gated(self, experts: Any, gate: torch.Tensor, up: torch.Tensor) -> Any:
        gate, up = gate.clamp(max=experts.limit), up.clamp(-experts.limit, experts.limit)
        return (up + 1) * gate * torch.sigmoid(gate)


class UpPlusOneMissing(_WrongClampedGate, id="mlp.up_plus_one_missing"):
    """The 1 that GPT-OSS adds to up is left out."""

    record = Record(
        shows="wrong from the first MLP on, at every position",
        first_tap="layers.0.mlp.activation",
        remedy="multiply by up + 1",
        seen_in=("sgl-project/DeepGEMM #87",),
    )

    def gated(self, experts: Any, gate: torch.Tensor, up: torch.Tensor) -> Any:
        gate, up = gate.clamp(max=experts.limit), up.clamp(-experts.limit, experts.limit)
        return up * gate * torch.sigmoid(gate * experts.alpha)
