"""The chosen probabilities go through another softmax."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from logitproof.mutations import Mutation
from logitproof.mutations.moe._router import chooses_several, routed


@dataclass
class SoftmaxTwice(Mutation):
    """A second softmax over weights that are already probabilities."""

    bug: ClassVar[str] = "the chosen probabilities go through another softmax"
    shows: ClassVar[str] = "weights of the chosen experts nearly equal"
    seen_in: ClassVar[tuple[str, ...]] = ()
    first_tap: ClassVar[str] = "layers.0.moe.weights"
    remedy: ClassVar[str] = "take one softmax"

    def applies(self, config: Any) -> bool:
        """Whether a model of this config has the part that the bug is in."""
        return chooses_several(config)

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Change what every router returns."""
        return routed(model, _route)


def _route(router: Any, logits: torch.Tensor, weights: torch.Tensor, index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return weights.float().softmax(-1), index
