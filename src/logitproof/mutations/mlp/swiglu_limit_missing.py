"""The limit of the clamped SwiGLU is left out."""

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
class SwigluLimitMissing(Mutation):
    """Gate and up are not clamped."""

    bug: ClassVar[str] = "the limit of the clamped SwiGLU is left out"
    shows: ClassVar[str] = "only where gate or up is beyond the limit: tails, rare positions"
    seen_in: ClassVar[tuple[str, ...]] = ("transformers #40197",)
    first_tap: ClassVar[str] = "layers.0.mlp.activation"
    remedy: ClassVar[str] = "clamp gate and up to `swiglu_limit`"
    needs: ClassVar[str] = "outliers"

    def applies(self, config: Any) -> bool:
        """Models with the clamped gate of GPT-OSS."""
        return config.model_type == "gpt_oss"

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Replace the gate of every layer's experts."""
        return attributes_replaced([(one, "_apply_gate", functools.partial(_gated, one)) for one in parts.experts(model)])


def _gated(experts: Any, gate_up: torch.Tensor) -> torch.Tensor:
    gate, up = gate_up[..., ::2], gate_up[..., 1::2]
    return (up + 1) * gate * torch.sigmoid(gate * experts.alpha)
