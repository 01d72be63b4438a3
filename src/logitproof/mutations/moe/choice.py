"""Which experts are chosen, and how many."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import torch

from logitproof.mutations import Mutation, Record, swept
from logitproof.mutations._tensors import ZeroTensors
from logitproof.mutations.moe._router import Routed, WrongRoute, is_sigmoid
from logitproof.reference import parts
from logitproof.reference.patches import attributes_replaced


class WrongK(Mutation, id="moe.wrong_k"):
    """The number of experts for a token is wrong: one too many or too few."""

    record = Record(
        shows="discrete: an expert more or less at every position, heavy tail",
        first_tap="layers.0.moe.index",
        remedy="read `num_experts_per_tok` of the config",
        seen_in=("MoLE #7", "1bit-MONSTER #217"),
    )
    by: int = swept(1, grid=(1, -1))

    def applies(self, config: Any) -> bool:
        """Routers that can choose as many."""
        routers = parts.routers(parts.skeleton(config))
        return any(0 < router.top_k + self.by <= router.num_experts for router in routers)

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Choose as many in every layer."""
        return attributes_replaced([(router, "top_k", router.top_k + self.by) for router in parts.routers(model)])


class LowestExpertsChosen(WrongRoute, id="moe.lowest_experts_chosen"):
    """The top-k sorts the wrong way round: the experts of the lowest scores are chosen."""

    record = Record(
        shows="wrong experts at every position",
        first_tap="layers.0.moe.index",
        remedy="choose the highest scores",
    )

    def applies(self, config: Any) -> bool:
        """Routers without a correction bias."""
        return super().applies(config) and not is_sigmoid(config)

    def route(self, router: Any, logits: torch.Tensor, weights: torch.Tensor, index: torch.Tensor) -> Routed:
        last = logits.topk(router.top_k, -1, largest=False).indices
        return logits.float().gather(1, last).softmax(-1) * weights.sum(-1, keepdim=True), last


class CorrectionBiasMissing(ZeroTensors, id="moe.correction_bias_missing"):
    """The correction bias is left out of the choice."""

    record = Record(
        shows="discrete: other experts where scores are close, heavy tail",
        first_tap="layers.0.moe.index",
        remedy="add e_score_correction_bias to the scores before the choice",
        seen_in=("TensorRT-Model-Connect #669",),
    )

    def affected(self, model: Any) -> list[torch.Tensor]:
        routers = parts.routers(model)
        return [router.e_score_correction_bias for router in routers if hasattr(router, "e_score_correction_bias")]


class GroupLimitIgnored(Mutation, id="moe.group_limit_ignored"):
    """Group-limited routing is ignored: experts are chosen from all groups."""

    record = Record(
        shows="discrete: other experts at some positions, heavy tail",
        first_tap="layers.0.moe.index",
        remedy="choose groups first, then experts within them",
        seen_in=("TensorRT-Model-Connect #669",),
    )

    def applies(self, config: Any) -> bool:
        """Routers that choose among some of their groups."""
        return any(_limits(router) for router in parts.routers(parts.skeleton(config)))

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Choose among all groups in every layer."""
        return attributes_replaced([(router, "topk_group", router.num_group) for router in parts.routers(model)])


def _limits(router: Any) -> bool:
    return getattr(router, "num_group", 1) > getattr(router, "topk_group", 1)
