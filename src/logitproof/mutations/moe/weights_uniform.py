"""The chosen experts are averaged instead of weighted."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from logitproof.mutations import Mutation
from logitproof.mutations.moe._router import chooses_several, routed


@dataclass
class WeightsUniform(Mutation):
    """The chosen experts are averaged."""

    bug: ClassVar[str] = "the chosen experts are averaged instead of weighted"
    shows: ClassVar[str] = "right experts with equal weights, at every position"
    seen_in: ClassVar[tuple[str, ...]] = ()
    first_tap: ClassVar[str] = "layers.0.moe.weights"
    remedy: ClassVar[str] = "multiply each expert by its weight"

    def applies(self, config: Any) -> bool:
        """Whether a model of this config has the part that the bug is in."""
        return chooses_several(config)

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Change what every router returns."""
        return routed(model, _route)


def _route(router: Any, logits: torch.Tensor, weights: torch.Tensor, index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return weights.sum(-1, keepdim=True).expand_as(weights) / weights.shape[-1], index
