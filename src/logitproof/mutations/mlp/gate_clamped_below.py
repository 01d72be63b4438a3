"""The gate of the clamped SwiGLU is clamped on both sides."""

from __future__ import annotations

import functools
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from logitproof.mutations import Mutation
from logitproof.reference import parts
from logitproof.reference.patches import attributes_replaced


@dataclass
class GateClampedBelow(Mutation):
    """The gate, which has only an upper limit, is clamped from below as well."""

    bug: ClassVar[str] = "the gate of the clamped SwiGLU is clamped on both sides"
    shows: ClassVar[str] = "only where the gate is far below zero: tails, rare positions"
    seen_in: ClassVar[tuple[str, ...]] = ()
    first_tap: ClassVar[str] = "layers.0.mlp.activation"
    remedy: ClassVar[str] = "clamp the gate from above only"
    needs: ClassVar[str] = "outliers"

    def applies(self, config: Any) -> bool:
        """Models with the clamped gate of GPT-OSS."""
        return config.model_type == "gpt_oss"

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Replace the gate of every layer's experts."""
        return attributes_replaced([(one, "_apply_gate", functools.partial(_gated, one)) for one in parts.experts(model)])


def _gated(experts: Any, gate_up: torch.Tensor) -> torch.Tensor:
    gate, up = gate_up[..., ::2], gate_up[..., 1::2]
    gate, up = gate.clamp(-experts.limit, experts.limit), up.clamp(-experts.limit, experts.limit)
    return (up + 1) * gate * torch.sigmoid(gate * experts.alpha)
