"""Softmax over the chosen experts instead of over all."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from logitproof.mutations import Mutation
from logitproof.mutations.moe._router import is_softmax, routed
from logitproof.reference import parts


@dataclass
class SoftmaxAfterTopk(Mutation):
    """The softmax is taken over the logits of the chosen experts alone."""

    bug: ClassVar[str] = "softmax over the chosen experts instead of over all"
    shows: ClassVar[str] = "nothing, where the weights are normalized afterwards"
    seen_in: ClassVar[tuple[str, ...]] = ("mlxcel #391", "Megatron #955")
    first_tap: ClassVar[str] = "layers.0.moe.weights"
    remedy: ClassVar[str] = "none needed where norm_topk_prob is true"
    equivalent: ClassVar[str] = (
        "exp(l_i)/Z divided by the sum of the chosen exp(l_j)/Z is exp(l_i) divided by the sum of the chosen "
        "exp(l_j): the normalizer Z of all experts cancels, so normalized weights are the softmax over the "
        "chosen alone"
    )

    def applies(self, config: Any) -> bool:
        """Softmax routers that normalize; where they do not, the bug is `moe.topk_norm_extra`."""
        return is_softmax(config) and parts.normalizes_top_k(config)

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Change what every router returns."""
        return routed(model, _route)


def _route(router: Any, logits: torch.Tensor, weights: torch.Tensor, index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return logits.float().gather(1, index).softmax(-1), index
