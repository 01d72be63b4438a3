"""The top-k sorts the wrong way round."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from logitproof.mutations import Mutation
from logitproof.mutations.moe._router import has_router, is_sigmoid, routed


@dataclass
class LowestExpertsChosen(Mutation):
    """The experts of the lowest scores are chosen."""

    bug: ClassVar[str] = "the top-k sorts the wrong way round"
    shows: ClassVar[str] = "wrong experts at every position"
    seen_in: ClassVar[tuple[str, ...]] = ()
    first_tap: ClassVar[str] = "layers.0.moe.index"
    remedy: ClassVar[str] = "choose the highest scores"

    def applies(self, config: Any) -> bool:
        """Whether a model of this config has the part that the bug is in."""
        return has_router(config) and not is_sigmoid(config)

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Change what every router returns."""
        return routed(model, _route)


def _route(router: Any, logits: torch.Tensor, weights: torch.Tensor, index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    last = logits.topk(router.top_k, -1, largest=False).indices
    made = logits.float().gather(1, last).softmax(-1) * weights.sum(-1, keepdim=True)
    return made, last
