"""Only the first of the chosen experts is added."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from logitproof.mutations import Mutation
from logitproof.mutations.moe._router import chooses_several, routed


@dataclass
class Top1Only(Mutation):
    """Only the best expert contributes."""

    bug: ClassVar[str] = "only the first of the chosen experts is added"
    shows: ClassVar[str] = "MoE outputs lack the smaller contributions, at every position"
    seen_in: ClassVar[tuple[str, ...]] = ()
    first_tap: ClassVar[str] = "layers.0.moe.weights"
    remedy: ClassVar[str] = "sum over all chosen experts"

    def applies(self, config: Any) -> bool:
        """Whether a model of this config has the part that the bug is in."""
        return chooses_several(config)

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Change what every router returns."""
        return routed(model, _route)


def _route(router: Any, logits: torch.Tensor, weights: torch.Tensor, index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    best = weights.amax(-1, keepdim=True)
    return weights * (weights == best), index
