"""The router's weight is applied to the expert's input."""

from __future__ import annotations

import functools
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch.nn import functional

from logitproof.mutations import Mutation
from logitproof.reference import parts
from logitproof.reference.patches import attributes_replaced


@dataclass
class WeightsOnInput(Mutation):
    """The router's weight multiplies the expert's input instead of its output."""

    bug: ClassVar[str] = "the router's weight is applied to the expert's input"
    shows: ClassVar[str] = "wrong at every position, because the expert is not linear"
    seen_in: ClassVar[tuple[str, ...]] = ()
    first_tap: ClassVar[str] = "layers.0.moe.out"
    remedy: ClassVar[str] = "multiply the expert's output by its weight, unless the family means the input"

    def applies(self, config: Any) -> bool:
        """Models whose experts are gated by an activation."""
        return bool(_weighted(parts.skeleton(config)))

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Plant the bug in every layer of `model`."""
        return attributes_replaced([(one, "forward", functools.partial(_forward, one)) for one in _weighted(model)])


def _weighted(model: Any) -> list[Any]:
    return [one for one in parts.experts(model) if parts.activation_name(one)]


def _forward(experts: Any, x: torch.Tensor, index: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """x [T, E], index and weights [T, k]."""
    out = torch.zeros_like(x)
    for expert in index.unique():
        token, slot = torch.where(index == expert)
        scaled = x[token] * weights[token, slot, None].to(x.dtype)
        gate, up = functional.linear(scaled, experts.gate_up_proj[expert]).chunk(2, dim=-1)
        made = functional.linear(experts.act_fn(gate) * up, experts.down_proj[expert])
        out.index_add_(0, token, made.to(out.dtype))
    return out
