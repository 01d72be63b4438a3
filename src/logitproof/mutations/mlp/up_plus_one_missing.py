"""The 1 that GPT-OSS adds to up is left out."""

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
class UpPlusOneMissing(Mutation):
    """up instead of up + 1."""

    bug: ClassVar[str] = "the 1 that GPT-OSS adds to up is left out"
    shows: ClassVar[str] = "wrong from the first MLP on, at every position"
    seen_in: ClassVar[tuple[str, ...]] = ()
    first_tap: ClassVar[str] = "layers.0.mlp.activation"
    remedy: ClassVar[str] = "multiply by up + 1"

    def applies(self, config: Any) -> bool:
        """Models with the clamped gate of GPT-OSS."""
        return config.model_type == "gpt_oss"

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Replace the gate of every layer's experts."""
        return attributes_replaced([(one, "_apply_gate", functools.partial(_gated, one)) for one in parts.experts(model)])


def _gated(experts: Any, gate_up: torch.Tensor) -> torch.Tensor:
    gate, up = gate_up[..., ::2], gate_up[..., 1::2]
    gate, up = gate.clamp(max=experts.limit), up.clamp(-experts.limit, experts.limit)
    return up * gate * torch.sigmoid(gate * experts.alpha)
