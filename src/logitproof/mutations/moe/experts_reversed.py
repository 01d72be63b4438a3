"""Experts are stored in reverse order."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from logitproof.mutations import Mutation
from logitproof.mutations.moe._router import has_router, routed


@dataclass
class ExpertsReversed(Mutation):
    """The experts stand in reverse order."""

    bug: ClassVar[str] = "experts are stored in reverse order"
    shows: ClassVar[str] = "wrong experts with right weights, at every position"
    seen_in: ClassVar[tuple[str, ...]] = ("imp #58",)
    first_tap: ClassVar[str] = "layers.0.moe.index"
    remedy: ClassVar[str] = "keep the order of the experts from the checkpoint"

    def applies(self, config: Any) -> bool:
        """Whether a model of this config has the part that the bug is in."""
        return has_router(config)

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Change what every router returns."""
        return routed(model, _route)


def _route(router: Any, logits: torch.Tensor, weights: torch.Tensor, index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return weights, router.num_experts - 1 - index
