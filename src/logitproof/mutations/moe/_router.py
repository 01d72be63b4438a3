"""Changes the choice and the weights that a router returns, and knows how families compute them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch

from logitproof.reference import parts
from logitproof.reference.patches import outputs_changed

Route = Callable[[Any, torch.Tensor, torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]


def routed(model: Any, route: Route) -> AbstractContextManager[None]:
    """While open, `route(router, logits [T, X], weights [T, k], index [T, k])` gives weights and index."""

    def change(router: Any, _: Any, output: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        logits, weights, index = output
        made, chosen = route(router, logits, weights, index)
        return logits, made.to(weights.dtype), chosen

    return outputs_changed(parts.routers(model), change)


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
