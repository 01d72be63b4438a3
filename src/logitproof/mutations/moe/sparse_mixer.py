"""SparseMixer (Phi-3.5 MoE): two experts, one after the other, each with its share among those that are near it."""

from __future__ import annotations

from typing import Any

import torch

from logitproof.mutations import Record
from logitproof.mutations.moe._router import Routed, WrongRoute
from logitproof.reference import parts


class _WrongMixer(WrongRoute):
    """A bug of routers that mix sparsely."""

    def applies(self, config: Any) -> bool:
        """Models whose routers ask which experts are near the best."""
        routers = parts.routers(parts.skeleton(config))
        return bool(routers) and all(hasattr(router, "router_jitter_noise") for router in routers)


class AsSoftmax(_WrongMixer, id="moe.mixer_as_softmax"):
    """Shares are the softmax over all experts, those of the two best divided by their sum, as in Mixtral."""

    record = Record(
        shows="shares of one sum, wrong at every position",
        first_tap="layers.0.moe.weights",
        remedy="take each share among the experts near it, and do not normalize the two",
        seen_in=("llama.cpp #11003",),
    )

    def weighted(self, router: Any, logits: torch.Tensor, weights: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        shares = logits.softmax(-1).gather(-1, index)
        return shares / shares.sum(-1, keepdim=True)


class NotNear(_WrongMixer, id="moe.mixer_border_missing"):
    """A share is that among all experts that are left, however far they are from the best."""

    record = Record(
        shows="shares too small, wrong at every position",
        first_tap="layers.0.moe.weights",
        remedy="leave experts out whose distance over the score's size is more than twice router_jitter_noise",
    )

    def weighted(self, router: Any, logits: torch.Tensor, weights: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        left = logits.scatter(-1, index[:, :1], -torch.inf)
        return torch.cat([logits.softmax(-1).gather(-1, index[:, :1]), left.softmax(-1).gather(-1, index[:, 1:])], -1)


class Normalized(_WrongMixer, id="moe.mixer_shares_normalized"):
    """The two shares are divided by their sum."""

    record = Record(
        shows="half of what experts give, where no other is near",
        first_tap="layers.0.moe.weights",
        remedy="leave the two shares as they are: each may be one",
        seen_in=("llama.cpp #11003",),
    )

    def weighted(self, router: Any, logits: torch.Tensor, weights: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        return weights / weights.sum(-1, keepdim=True)


class FirstCountsAgain(_WrongMixer, id="moe.mixer_first_counts_again"):
    """The expert that was chosen first is still among those near the second."""

    record = Record(
        shows="the second share too small where the two best are near each other",
        first_tap="layers.0.moe.weights",
        remedy="set the first expert's score to -inf before the second share",
    )

    def weighted(self, router: Any, logits: torch.Tensor, weights: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        top = logits.gather(-1, index[:, 1:])
        near = (top - logits) / torch.maximum(logits.abs(), top) <= 2 * router.router_jitter_noise
        second = 1 / torch.where(near, (logits - top).exp(), 0.0).sum(-1, keepdim=True)
        return torch.cat([weights[:, :1], second], -1)


class BestAlone(_WrongMixer, id="moe.mixer_best_alone"):
    """The first share is one and the second what is left of it: nothing, as where the best expert takes all."""

    record = Record(
        shows="what the second expert gives is missing at every position",
        first_tap="layers.0.moe.weights",
        remedy="add what both experts give",
        seen_in=("sglang #1948",),
    )

    def route(self, router: Any, logits: torch.Tensor, weights: torch.Tensor, index: torch.Tensor) -> Routed:
        return torch.cat([weights[:, :1], torch.zeros_like(weights[:, 1:])], -1), index
