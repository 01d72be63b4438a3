"""How the experts that were chosen rightly are weighted: bias, normalization, factor, order."""

from __future__ import annotations

from typing import Any

import torch

from logitproof.mutations import Record
from logitproof.mutations.moe._router import (
    WrongAmongSeveral,
    WrongRoute,
    WrongSigmoidRoute,
    is_sigmoid,
    is_softmax,
    scaled,
    scores,
)
from logitproof.reference import parts


class _WrongFactor(WrongSigmoidRoute):
    def applies(self, config: Any) -> bool:
        """Sigmoid routers with a factor."""
        return super().applies(config) and float(config.routed_scaling_factor) != 1.0


class CorrectionBiasInWeights(WrongSigmoidRoute, id="moe.correction_bias_in_weights"):
    """The correction bias, which balances the experts, is in the weights too, not only in the choice."""

    record = Record(
        shows="right experts with wrong weights, at every position",
        first_tap="layers.0.moe.weights",
        remedy="take the weights from the scores without the bias",
        seen_in=("PaddleFormers #3452",),
    )

    def weighted(self, router: Any, logits: torch.Tensor, weights: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        made = (scores(router, logits) + router.e_score_correction_bias).gather(1, index)
        return scaled(router, made)


class RoutedScalingMissing(_WrongFactor, id="moe.routed_scaling_missing"):
    """routed_scaling_factor is left out."""

    record = Record(
        shows="the routed part too small by the factor, at every position",
        first_tap="layers.0.moe.weights",
        remedy="multiply the chosen weights by `routed_scaling_factor`",
        seen_in=("sglang-jax #1282", "sglang #31449", "vLLM #45037"),
    )

    def weighted(self, router: Any, logits: torch.Tensor, weights: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        return weights / router.routed_scaling_factor


class RoutedScalingDoubled(_WrongFactor, id="moe.routed_scaling_doubled"):
    """routed_scaling_factor is applied twice: in the weights and in the sum."""

    record = Record(
        shows="the routed part too large by the factor, at every position",
        first_tap="layers.0.moe.weights",
        remedy="apply `routed_scaling_factor` once",
        seen_in=("sglang-jax #1282", "sglang #31449", "vLLM #45037"),
    )

    def weighted(self, router: Any, logits: torch.Tensor, weights: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        return weights * router.routed_scaling_factor


class TopkNormMissing(WrongRoute, id="moe.topk_norm_missing"):
    """norm_topk_prob is ignored: the weights of the chosen experts are not divided by their sum."""

    record = Record(
        shows="every MoE output too small by the sum of the chosen weights",
        first_tap="layers.0.moe.weights",
        remedy="divide the chosen weights by their sum",
        seen_in=("torchtitan #1448",),
    )

    def applies(self, config: Any) -> bool:
        """Routers that normalize."""
        return (is_softmax(config) or is_sigmoid(config)) and parts.normalizes_top_k(config)

    def weighted(self, router: Any, logits: torch.Tensor, weights: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        return scores(router, logits).gather(1, index) * getattr(router, "routed_scaling_factor", 1.0)


class TopkNormExtra(WrongRoute, id="moe.topk_norm_extra"):
    """The chosen weights are normalized although norm_topk_prob is false."""

    record = Record(
        shows="every MoE output too large by one over the sum of the chosen weights",
        first_tap="layers.0.moe.weights",
        remedy="read `norm_topk_prob` of the config",
        seen_in=("torchtitan #1448", "mlxcel #391", "Megatron #955"),
    )

    def applies(self, config: Any) -> bool:
        """Softmax routers that do not normalize. A softmax over the chosen logits alone is the same bug."""
        return is_softmax(config) and not parts.normalizes_top_k(config)

    def weighted(self, router: Any, logits: torch.Tensor, weights: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        return weights / weights.sum(-1, keepdim=True)


class RawLogitsAsWeights(WrongRoute, id="moe.raw_logits_as_weights"):
    """Raw router logits are used as weights."""

    record = Record(
        shows="MoE outputs of wrong size and sign, at every position",
        first_tap="layers.0.moe.weights",
        remedy="pass the logits through the router's softmax or sigmoid",
        seen_in=("sglang #35160",),
    )

    def weighted(self, router: Any, logits: torch.Tensor, weights: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        return logits.gather(1, index)


class WeightsUniform(WrongAmongSeveral, id="moe.weights_uniform"):
    """The router's weights choose the experts and do not weight them: all chosen ones count alike."""

    record = Record(
        shows="right experts with equal weights, at every position",
        first_tap="layers.0.moe.weights",
        remedy="multiply each expert by its weight",
        seen_in=("Jlama #201", "deliverance #87"),
    )

    def weighted(self, router: Any, logits: torch.Tensor, weights: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        return weights.sum(-1, keepdim=True).expand_as(weights) / weights.shape[-1]


class WeightsMisordered(WrongAmongSeveral, id="moe.weights_misordered"):
    """The weights go to the next of the chosen experts."""

    record = Record(
        shows="right experts with exchanged weights; invisible where two weights are equal",
        first_tap="layers.0.moe.weights",
        remedy="sort weights and indices together",
    )

    def weighted(self, router: Any, logits: torch.Tensor, weights: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        return weights.roll(1, -1)


class Top1Only(WrongAmongSeveral, id="moe.top1_only"):
    """Only the first of the chosen experts is added."""

    record = Record(
        shows="MoE outputs lack the smaller contributions, at every position",
        first_tap="layers.0.moe.weights",
        remedy="sum over all chosen experts",
    )

    def weighted(self, router: Any, logits: torch.Tensor, weights: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        return weights * (weights == weights.amax(-1, keepdim=True))
