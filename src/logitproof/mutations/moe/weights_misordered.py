"""Weights and chosen experts are in different orders."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from logitproof.mutations import Mutation
from logitproof.mutations.moe._router import chooses_several, routed


@dataclass
class WeightsMisordered(Mutation):
    """The weights go to the next of the chosen experts."""

    bug: ClassVar[str] = "weights and chosen experts are in different orders"
    shows: ClassVar[str] = "right experts with exchanged weights; invisible where two weights are equal"
    seen_in: ClassVar[tuple[str, ...]] = ()
    first_tap: ClassVar[str] = "layers.0.moe.weights"
    remedy: ClassVar[str] = "sort weights and indices together"

    def applies(self, config: Any) -> bool:
        """Whether a model of this config has the part that the bug is in."""
        return chooses_several(config)

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Change what every router returns."""
        return routed(model, _route)


def _route(router: Any, logits: torch.Tensor, weights: torch.Tensor, index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return weights.roll(1, -1), index
