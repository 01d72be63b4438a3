"""Softmax over all experts instead of over the chosen."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from logitproof.mutations import Mutation
from logitproof.mutations.moe._router import has_router, routed


@dataclass
class SoftmaxOverAll(Mutation):
    """The softmax is taken over all experts before the choice."""

    bug: ClassVar[str] = "softmax over all experts instead of over the chosen"
    shows: ClassVar[str] = "every MoE output too small by the sum of the chosen weights"
    seen_in: ClassVar[tuple[str, ...]] = ("mlxcel #391", "Megatron #955")
    first_tap: ClassVar[str] = "layers.0.moe.weights"
    remedy: ClassVar[str] = "take the softmax over the chosen logits"

    def applies(self, config: Any) -> bool:
        """Routers that take the softmax over the chosen experts."""
        return has_router(config) and config.model_type == "gpt_oss"

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Change what every router returns."""
        return routed(model, _route)


def _route(router: Any, logits: torch.Tensor, weights: torch.Tensor, index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return logits.float().softmax(-1).gather(1, index), index
