"""The shared expert's gate lacks its sigmoid."""

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
class SharedGateRaw(Mutation):
    """The shared expert's gate is used without its sigmoid."""

    bug: ClassVar[str] = "the shared expert's gate lacks its sigmoid"
    shows: ClassVar[str] = "the shared expert's output of wrong size and sign, at every position"
    seen_in: ClassVar[tuple[str, ...]] = ("pegainfer",)
    first_tap: ClassVar[str] = "layers.0.moe.out"
    remedy: ClassVar[str] = "take the sigmoid of the shared expert's gate"

    def applies(self, config: Any) -> bool:
        """Whether a model of this config has the part that the bug is in."""
        return bool(_gates(parts.skeleton(config)))

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Plant the bug in every layer of `model`."""
        return attributes_replaced([(one, "forward", functools.partial(_forward, one)) for one in _blocks(model)])


def _gates(model: Any) -> list[Any]:
    return parts.projections(model, "shared_expert_gate")


def _blocks(model: Any) -> list[Any]:
    return [one for one in model.modules() if "shared_expert_gate" in one._modules]


def _forward(block: Any, hidden: torch.Tensor) -> torch.Tensor:
    x = hidden.view(-1, hidden.shape[-1])
    _, weights, index = block.gate(x)
    made = block.experts(x, index, weights) + block.shared_expert_gate(x) * block.shared_expert(x)
    return made.reshape(hidden.shape)
