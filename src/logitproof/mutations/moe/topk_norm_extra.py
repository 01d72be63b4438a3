"""The chosen weights are normalized although norm_topk_prob is false."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from logitproof.mutations import Mutation
from logitproof.mutations.moe._router import is_softmax, routed
from logitproof.reference import parts


@dataclass
class TopkNormExtra(Mutation):
    """The weights of the chosen experts are divided by their sum although the config says no."""

    bug: ClassVar[str] = "the chosen weights are normalized although norm_topk_prob is false"
    shows: ClassVar[str] = "every MoE output too large by one over the sum of the chosen weights"
    seen_in: ClassVar[tuple[str, ...]] = ("torchtitan #1448", "mlxcel #391", "Megatron #955")
    first_tap: ClassVar[str] = "layers.0.moe.weights"
    remedy: ClassVar[str] = "read `norm_topk_prob` of the config"

    def applies(self, config: Any) -> bool:
        """Softmax routers that do not normalize. A softmax over the chosen logits alone is the same bug."""
        return is_softmax(config) and not parts.normalizes_top_k(config)

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Change what every router returns."""
        return routed(model, _route)


def _route(router: Any, logits: torch.Tensor, weights: torch.Tensor, index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return weights / weights.sum(-1, keepdim=True), index
