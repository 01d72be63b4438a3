"""Changes the choice and the weights that a router returns, and knows how families compute them."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import torch

from logitproof.mutations import Mutation
from logitproof.reference import parts
from logitproof.reference.patches import outputs_changed

Routed = tuple[torch.Tensor, torch.Tensor]


class WrongRoute(Mutation):
    """A bug in what a router returns: subclasses say in `route` which experts are chosen, and how they are weighted."""

    def applies(self, config: Any) -> bool:
        """Models that choose among experts by a router that can be changed."""
        return has_router(config)

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Change what every router returns."""

        def change(router: Any, _: Any, output: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
            logits, right, index = output
            weights, chosen = self.route(router, logits, right, index)
            return logits, weights.to(right.dtype), chosen

        return outputs_changed(parts.routers(model), change)

    def route(self, router: Any, logits: torch.Tensor, weights: torch.Tensor, index: torch.Tensor) -> Routed:
        """Weights and index [T, k] for the right ones, logits [T, X]."""
        return self.weighted(router, logits, weights, index), index

    def weighted(self, router: Any, logits: torch.Tensor, weights: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        """Weights [T, k] of the experts that were chosen rightly."""
        raise NotImplementedError


class WrongSigmoidRoute(WrongRoute):
    """The same where the weights are sigmoids."""

    def applies(self, config: Any) -> bool:
        """Models whose weights are sigmoids."""
        return is_sigmoid(config)


class WrongAmongSeveral(WrongRoute):
    """The same where it takes several experts for a token to be wrong."""

    def applies(self, config: Any) -> bool:
        """Models in which a token has more than one expert."""
        return chooses_several(config)


def has_router(config: Any) -> bool:
    """Whether the model chooses among experts by a router that can be changed."""
    return bool(parts.routers(parts.skeleton(config)))


def is_softmax(config: Any) -> bool:
    """Whether the weights are a softmax over all experts."""
    return has_router(config) and config.model_type in parts.SOFTMAX_ROUTERS


def is_sigmoid(config: Any) -> bool:
    """Whether the weights are sigmoids."""
    return has_router(config) and config.model_type in parts.SIGMOID_ROUTERS


def chooses_several(config: Any) -> bool:
    """Whether a token has more than one expert."""
    return has_router(config) and int(config.num_experts_per_tok) > 1


def scores(router: Any, logits: torch.Tensor) -> torch.Tensor:
    """The score of every expert [T, X] before the choice: sigmoid where there is a correction bias, else softmax."""
    if hasattr(router, "e_score_correction_bias"):
        return logits.float().sigmoid()
    return logits.float().softmax(-1)


def scaled(router: Any, weights: torch.Tensor) -> torch.Tensor:
    """Weights [T, k] of a sigmoid router as its config wants them: over their sum, times its factor."""
    if router.norm_topk_prob:
        weights = weights / weights.sum(-1, keepdim=True)
    return weights * router.routed_scaling_factor
