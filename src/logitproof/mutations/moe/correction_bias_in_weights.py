"""The correction bias is added to the weights."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from logitproof.mutations import Mutation
from logitproof.mutations.moe._router import is_sigmoid, routed, scores


@dataclass
class CorrectionBiasInWeights(Mutation):
    """The bias that balances the experts is in the weights too, not only in the choice."""

    bug: ClassVar[str] = "the correction bias is added to the weights"
    shows: ClassVar[str] = "right experts with wrong weights, at every position"
    seen_in: ClassVar[tuple[str, ...]] = ("PaddleFormers #3452",)
    first_tap: ClassVar[str] = "layers.0.moe.weights"
    remedy: ClassVar[str] = "take the weights from the scores without the bias"

    def applies(self, config: Any) -> bool:
        """Whether a model of this config has the part that the bug is in."""
        return is_sigmoid(config)

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Change what every router returns."""
        return routed(model, _route)


def _route(router: Any, logits: torch.Tensor, weights: torch.Tensor, index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    made = (scores(router, logits) + router.e_score_correction_bias).gather(1, index)
    if router.norm_topk_prob:
        made = made / made.sum(-1, keepdim=True)
    return made * router.routed_scaling_factor, index
