"""The router uses a sigmoid instead of a softmax."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from logitproof.mutations import Mutation
from logitproof.mutations.moe._router import has_router, is_sigmoid, routed


@dataclass
class SigmoidForSoftmax(Mutation):
    """A sigmoid where the model means a softmax."""

    bug: ClassVar[str] = "the router uses a sigmoid instead of a softmax"
    shows: ClassVar[str] = "the same experts with wrong weights"
    seen_in: ClassVar[tuple[str, ...]] = ()
    first_tap: ClassVar[str] = "layers.0.moe.weights"
    remedy: ClassVar[str] = "read the family's scoring function"

    def applies(self, config: Any) -> bool:
        """Whether a model of this config has the part that the bug is in."""
        return has_router(config) and not is_sigmoid(config)

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Change what every router returns."""
        return routed(model, _route)


def _route(router: Any, logits: torch.Tensor, weights: torch.Tensor, index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    made = logits.float().gather(1, index).sigmoid()
    return made, index
