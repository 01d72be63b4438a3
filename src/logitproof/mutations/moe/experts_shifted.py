"""Expert weights are shifted by one place."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from logitproof.mutations import Mutation
from logitproof.mutations.moe._router import has_router, routed


@dataclass
class ExpertsShifted(Mutation):
    """Expert i is read where expert i + by is meant, as after an off-by-one in the loader."""

    bug: ClassVar[str] = "expert weights are shifted by one place"
    shows: ClassVar[str] = "wrong experts with right weights, at every position"
    seen_in: ClassVar[tuple[str, ...]] = ("imp #58",)
    first_tap: ClassVar[str] = "layers.0.moe.index"
    remedy: ClassVar[str] = "count experts from zero"
    grid: ClassVar[dict[str, tuple[Any, ...]]] = {"by": (1, -1)}

    by: int = 1

    def applies(self, config: Any) -> bool:
        """Whether a model of this config has the part that the bug is in."""
        return has_router(config)

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Change what every router returns."""
        return routed(model, self._route)

    def _route(
        self, router: Any, logits: torch.Tensor, weights: torch.Tensor, index: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return weights, (index + self.by) % router.num_experts
