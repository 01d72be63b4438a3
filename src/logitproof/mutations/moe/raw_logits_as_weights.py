"""Raw router logits are used as weights."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from logitproof.mutations import Mutation
from logitproof.mutations.moe._router import has_router, routed


@dataclass
class RawLogitsAsWeights(Mutation):
    """The router's logits are used as weights."""

    bug: ClassVar[str] = "raw router logits are used as weights"
    shows: ClassVar[str] = "MoE outputs of wrong size and sign, at every position"
    seen_in: ClassVar[tuple[str, ...]] = ("sglang #35160",)
    first_tap: ClassVar[str] = "layers.0.moe.weights"
    remedy: ClassVar[str] = "pass the logits through the router's softmax or sigmoid"

    def applies(self, config: Any) -> bool:
        """Whether a model of this config has the part that the bug is in."""
        return has_router(config)

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Change what every router returns."""
        return routed(model, _route)


def _route(router: Any, logits: torch.Tensor, weights: torch.Tensor, index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return logits.gather(1, index), index
