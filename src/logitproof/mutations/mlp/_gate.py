"""What a gated MLP makes of gate and up, in dense MLPs, fused ones and experts alike."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, ClassVar

import torch
from torch import nn
from torch.nn import functional

from logitproof.mutations import Mutation
from logitproof.reference import parts
from logitproof.reference.patches import attributes_replaced

Combine = Callable[[torch.Tensor, torch.Tensor, Any], Any]


class WrongActivation(Mutation):
    """Another activation than the model's: subclasses say in `meant` instead of which, and in `activation` what it is."""

    meant: ClassVar[tuple[str, ...]] = ()

    def applies(self, config: Any) -> bool:
        """Gated MLPs with the activation that is mistaken; with any where none is named."""
        named = activation_of(config)
        return named in self.meant if self.meant else bool(named)

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Give every gated MLP the wrong activation."""
        wrong = self.activation()
        return attributes_replaced([(mlp, parts.activation_name(mlp), wrong) for mlp in parts.gated_mlps(model)])

    def activation(self) -> nn.Module:
        """The wrong activation."""
        raise NotImplementedError


class WrongGate(Mutation):
    """A bug in what is made of gate and up: subclasses say in `combined`."""

    def applies(self, config: Any) -> bool:
        """Every model with a gated MLP."""
        return bool(activation_of(config))

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Compute down(combined(gate, up, activation)) in every gated MLP."""
        changes = []
        for mlp in parts.gated_mlps(model):
            forward = _experts if mlp in parts.experts(model) else _dense
            changes.append((mlp, "forward", functools.partial(forward, mlp, self.combined)))
        return attributes_replaced(changes)

    def combined(self, gate: torch.Tensor, up: torch.Tensor, activation: Callable[..., Any]) -> Any:
        """What goes into the down projection, for gate and up [..., F]."""
        raise NotImplementedError


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
