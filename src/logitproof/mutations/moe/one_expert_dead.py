"""One expert is not computed."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from logitproof.mutations import Mutation
from logitproof.mutations.moe._router import has_router, routed


@dataclass
class OneExpertDead(Mutation):
    """One expert's output is lost."""

    bug: ClassVar[str] = "one expert is not computed"
    shows: ClassVar[str] = "only tokens routed to that expert"
    seen_in: ClassVar[tuple[str, ...]] = ()
    first_tap: ClassVar[str] = "layers.0.moe.weights"
    remedy: ClassVar[str] = "run every expert of the checkpoint"

    expert: int = 0

    def applies(self, config: Any) -> bool:
        """Whether a model of this config has the part that the bug is in."""
        return has_router(config)

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Change what every router returns."""
        return routed(model, self._route)

    def _route(
        self, router: Any, logits: torch.Tensor, weights: torch.Tensor, index: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return weights.masked_fill(index == self.expert, 0.0), index
