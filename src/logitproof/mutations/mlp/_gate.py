"""Replaces what a gated MLP makes of gate and up, in dense MLPs, fused ones and experts alike."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from logitproof.reference import parts
from logitproof.reference.patches import attributes_replaced

Combine = Callable[[torch.Tensor, torch.Tensor, Any], torch.Tensor]


def combined(model: Any, combine: Combine) -> AbstractContextManager[None]:
    """While open, every gated MLP computes down(combine(gate, up, activation))."""
    changes = []
    for mlp in parts.gated_mlps(model):
        forward = _experts if mlp in parts.experts(model) else _dense
        changes.append((mlp, "forward", functools.partial(forward, mlp, combine)))
    return attributes_replaced(changes)


def activations_replaced(model: Any, activation: nn.Module) -> AbstractContextManager[None]:
    """While open, every gated MLP uses `activation`."""
    return attributes_replaced([(mlp, parts.activation_name(mlp), activation) for mlp in parts.gated_mlps(model)])


def activation_of(config: Any) -> str:
    """The name of the MLP activation in transformers' own words, or nothing where there is no gated MLP."""
    if not parts.gated_mlps(parts.skeleton(config)):
        return ""
    return str(getattr(config, "hidden_activation", None) or getattr(config, "hidden_act", ""))


class Activation(nn.Module):  # type: ignore[misc]  # torch is not followed
    """A function as the module that transformers expects."""

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self._function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self._function(x)


def _dense(mlp: Any, combine: Combine, x: torch.Tensor) -> torch.Tensor:
    gate, up = mlp.gate_up_proj(x).chunk(2, dim=-1) if hasattr(mlp, "gate_up_proj") else (mlp.gate_proj(x), mlp.up_proj(x))
    return mlp.down_proj(combine(gate, up, getattr(mlp, parts.activation_name(mlp))))


def _experts(mlp: Any, combine: Combine, x: torch.Tensor, index: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """x [T, E], index and weights [T, k]."""
    out = torch.zeros_like(x)
    for expert in index.unique():
        token, slot = torch.where(index == expert)
        gate, up = functional.linear(x[token], mlp.gate_up_proj[expert]).chunk(2, dim=-1)
        made = functional.linear(combine(gate, up, mlp.act_fn), mlp.down_proj[expert])
        out.index_add_(0, token, (made * weights[token, slot, None]).to(out.dtype))
    return out
