"""The router uses a softmax instead of a sigmoid."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from logitproof.mutations import Mutation
from logitproof.mutations.moe._router import chooses_several, is_sigmoid, routed


@dataclass
class SoftmaxForSigmoid(Mutation):
    """A softmax where the model means a sigmoid."""

    bug: ClassVar[str] = "the router uses a softmax instead of a sigmoid"
    shows: ClassVar[str] = "the same experts with wrong weights"
    seen_in: ClassVar[tuple[str, ...]] = ()
    first_tap: ClassVar[str] = "layers.0.moe.weights"
    remedy: ClassVar[str] = "read the family's scoring function"

    def applies(self, config: Any) -> bool:
        """Whether a model of this config has the part that the bug is in."""
        return is_sigmoid(config) and chooses_several(config)

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Change what every router returns."""
        return routed(model, _route)


def _route(router: Any, logits: torch.Tensor, weights: torch.Tensor, index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    made = logits.float().softmax(-1).gather(1, index)
    if router.norm_topk_prob:
        made = made / made.sum(-1, keepdim=True)
    return made * router.routed_scaling_factor, index
