"""routed_scaling_factor is applied twice."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from logitproof.mutations import Mutation
from logitproof.mutations.moe._router import is_sigmoid, routed


@dataclass
class RoutedScalingDoubled(Mutation):
    """routed_scaling_factor is in the weights and in the sum."""

    bug: ClassVar[str] = "routed_scaling_factor is applied twice"
    shows: ClassVar[str] = "the routed part too large by the factor, at every position"
    seen_in: ClassVar[tuple[str, ...]] = ("sglang-jax #1282", "sglang #31449", "vLLM #45037")
    first_tap: ClassVar[str] = "layers.0.moe.weights"
    remedy: ClassVar[str] = "apply `routed_scaling_factor` once"

    def applies(self, config: Any) -> bool:
        """Whether a model of this config has the part that the bug is in."""
        return is_sigmoid(config) and float(config.routed_scaling_factor) != 1.0

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Change what every router returns."""
        return routed(model, _route)


def _route(router: Any, logits: torch.Tensor, weights: torch.Tensor, index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return weights * router.routed_scaling_factor, index
