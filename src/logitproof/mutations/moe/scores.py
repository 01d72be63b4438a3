"""What the router makes of its logits: softmax or sigmoid, over all or over the chosen, how exactly."""

from __future__ import annotations

from typing import Any, Literal

import torch

from logitproof.mutations import Record
from logitproof.mutations.moe._router import (
    Routed,
    WrongAmongSeveral,
    WrongRoute,
    WrongSigmoidRoute,
    chooses_several,
    is_sigmoid,
    is_softmax,
    scaled,
)
from logitproof.reference import parts


class SigmoidForSoftmax(WrongRoute, id="moe.sigmoid_for_softmax"):
    """The router uses a sigmoid instead of a softmax."""

    record = Record(
        shows="the same experts with wrong weights",
        first_tap="layers.0.moe.weights",
        remedy="read the family's scoring function",
        seen_in=("1bit-MONSTER #650",),
    )

    def applies(self, config: Any) -> bool:
        """Routers without sigmoids."""
        return super().applies(config) and not is_sigmoid(config)

    def weighted(self, router: Any, logits: torch.Tensor, weights: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        return logits.float().gather(1, index).sigmoid()


class SoftmaxForSigmoid(WrongSigmoidRoute, id="moe.softmax_for_sigmoid"):
    """The router uses a softmax instead of a sigmoid."""

    record = Record(
        shows="the same experts with wrong weights",
        first_tap="layers.0.moe.weights",
        remedy="read the family's scoring function",
        seen_in=("TensorRT-Model-Connect #669",),
    )

    def applies(self, config: Any) -> bool:
        """Sigmoid routers that choose several."""
        return super().applies(config) and chooses_several(config)

    def weighted(self, router: Any, logits: torch.Tensor, weights: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        return scaled(router, logits.float().softmax(-1).gather(1, index))


class SoftmaxOverAll(WrongRoute, id="moe.softmax_over_all"):
    """The softmax is taken over all experts instead of over the chosen."""

    record = Record(
        shows="every MoE output too small by the sum of the chosen weights",
        first_tap="layers.0.moe.weights",
        remedy="take the softmax over the chosen logits",
        seen_in=("mlxcel #391", "Megatron #955"),
    )

    def applies(self, config: Any) -> bool:
        """Routers that take the softmax over the chosen experts."""
        return super().applies(config) and config.model_type == "gpt_oss"

    def weighted(self, router: Any, logits: torch.Tensor, weights: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        return logits.float().softmax(-1).gather(1, index)


class SoftmaxAfterTopk(WrongRoute, id="moe.softmax_after_topk"):
    """The softmax is taken over the chosen experts instead of over all."""

    record = Record(
        shows="nothing, where the weights are normalized afterwards",
        first_tap="layers.0.moe.weights",
        remedy="none needed where norm_topk_prob is true",
        equivalent=(
            "exp(l_i)/Z divided by the sum of the chosen exp(l_j)/Z is exp(l_i) divided by the sum of the chosen "
            "exp(l_j): the normalizer Z of all experts cancels, so normalized weights are the softmax over the chosen "
            "alone"
        ),
        seen_in=("mlxcel #391", "Megatron #955"),
    )

    def applies(self, config: Any) -> bool:
        """Softmax routers that normalize; where they do not, the bug is `moe.topk_norm_extra`."""
        return is_softmax(config) and parts.normalizes_top_k(config)

    def weighted(self, router: Any, logits: torch.Tensor, weights: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        return logits.float().gather(1, index).softmax(-1)


class SoftmaxTwice(WrongAmongSeveral, id="moe.softmax_twice"):
    """The chosen probabilities go through another softmax."""

    record = Record(
        shows="weights of the chosen experts nearly equal",
        first_tap="layers.0.moe.weights",
        remedy="take one softmax",
        seen_in=("1bit-MONSTER #2090",),
    )

    def weighted(self, router: Any, logits: torch.Tensor, weights: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        return weights.float().softmax(-1)


class RouterLowPrecision(WrongRoute, id="moe.router_low_precision"):
    """The router's logits are rounded before softmax and choice."""

    record = Record(
        shows="discrete flips between experts of nearly equal score, heavy tail; else slight",
        first_tap="layers.0.moe.weights",
        remedy="compute the router in float32",
        seen_in=("vLLM #14027", "sglang #33764", "vllm-ascend #9617"),
    )
    dtype: Literal["bfloat16", "float16"] = "bfloat16"

    def route(self, router: Any, logits: torch.Tensor, weights: torch.Tensor, index: torch.Tensor) -> Routed:
        rounded = logits.to(getattr(torch, self.dtype)).float()
        if hasattr(router, "e_score_correction_bias"):
            return scaled(router, rounded.sigmoid().gather(1, index)), index
        top, chosen = rounded.topk(router.top_k, -1)
        normalized = getattr(router, "norm_topk_prob", True)
        return top.softmax(-1) if normalized else rounded.softmax(-1).gather(1, chosen), chosen
