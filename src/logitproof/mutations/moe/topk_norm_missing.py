"""norm_topk_prob is ignored, the chosen weights are not normalized."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from logitproof.mutations import Mutation
from logitproof.mutations.moe._router import is_sigmoid, is_softmax, routed, scores
from logitproof.reference import parts


@dataclass
class TopkNormMissing(Mutation):
    """The weights of the chosen experts are not divided by their sum."""

    bug: ClassVar[str] = "norm_topk_prob is ignored, the chosen weights are not normalized"
    shows: ClassVar[str] = "every MoE output too small by the sum of the chosen weights"
    seen_in: ClassVar[tuple[str, ...]] = ("torchtitan #1448",)
    first_tap: ClassVar[str] = "layers.0.moe.weights"
    remedy: ClassVar[str] = "divide the chosen weights by their sum"

    def applies(self, config: Any) -> bool:
        """Routers that normalize."""
        return (is_softmax(config) or is_sigmoid(config)) and parts.normalizes_top_k(config)

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Change what every router returns."""
        return routed(model, _route)


def _route(router: Any, logits: torch.Tensor, weights: torch.Tensor, index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return scores(router, logits).gather(1, index) * getattr(router, "routed_scaling_factor", 1.0), index
