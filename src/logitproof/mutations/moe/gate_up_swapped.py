"""The experts' gate and up are exchanged."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from logitproof.mutations import Mutation
from logitproof.reference import parts
from logitproof.reference.patches import tensors_replaced


@dataclass
class GateUpSwapped(Mutation):
    """Gate and up of every expert are exchanged."""

    bug: ClassVar[str] = "the experts' gate and up are exchanged"
    shows: ClassVar[str] = "MoE outputs wrong, at every position"
    seen_in: ClassVar[tuple[str, ...]] = ("imp #58",)
    first_tap: ClassVar[str] = "layers.0.moe.out"
    remedy: ClassVar[str] = "store gate first, up second, as the fused tensor means"

    def applies(self, config: Any) -> bool:
        """Whether a model of this config has the part that the bug is in."""
        return any(parts.activation_name(one) for one in parts.experts(parts.skeleton(config)))

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Exchange the halves of every experts' fused tensor [X, 2F, E]."""
        found = [one.gate_up_proj for one in parts.experts(model)]
        return tensors_replaced([(one, torch.cat(one.chunk(2, dim=1)[::-1], dim=1)) for one in found])
