"""The router computes in low precision."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch

from logitproof.mutations import Mutation
from logitproof.mutations.moe._router import has_router, routed


@dataclass
class RouterLowPrecision(Mutation):
    """The router's logits are rounded before softmax and choice."""

    bug: ClassVar[str] = "the router computes in low precision"
    shows: ClassVar[str] = "discrete flips between experts of nearly equal score, heavy tail; else slight"
    seen_in: ClassVar[tuple[str, ...]] = ()
    first_tap: ClassVar[str] = "layers.0.moe.weights"
    remedy: ClassVar[str] = "compute the router in float32"

    dtype: Literal["bfloat16", "float16"] = "bfloat16"

    def applies(self, config: Any) -> bool:
        """Whether a model of this config has the part that the bug is in."""
        return has_router(config)

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Change what every router returns."""
        return routed(model, self._route)

    def _route(
        self, router: Any, logits: torch.Tensor, weights: torch.Tensor, index: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        rounded = logits.to(getattr(torch, self.dtype)).float()
        if hasattr(router, "e_score_correction_bias"):
            made, chosen = rounded.sigmoid().gather(1, index), index
            if router.norm_topk_prob:
                made = made / made.sum(-1, keepdim=True)
            return made * router.routed_scaling_factor, chosen
        top, chosen = rounded.topk(router.top_k, -1)
        normalized = getattr(router, "norm_topk_prob", True)
        made = top.softmax(-1) if normalized else rounded.softmax(-1).gather(1, chosen)
        return made, chosen
