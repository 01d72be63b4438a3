"""What becomes of the scores of queries and keys before they weight V: scale, soft-cap, softmax."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from logitproof.mutations import Record, swept
from logitproof.mutations._precision import rounded
from logitproof.mutations.attention._interface import Out, WrongAttention, WrongScale, additive, is_special, visible


class ScaleFactor(WrongScale, id="attention.scale_factor"):
    """The scale of attention scores is not the model's."""

    record = Record(
        shows="position 0 exact, wrong from position 1 on",
        first_tap="layers.0.attn.scores",
        remedy="multiply scores by 1/sqrt(head size), or by what the config says, once",
        seen_in=("ferrox #40",),
    )
    factor: float = swept(2.0, grid=(0.5, 2.0, 0.25), between=(0.02, 50.0))

    def scaling(self, right: float, config: Any) -> float:
        return right * self.factor


class ScaleMissing(WrongScale, id="attention.scale_missing"):
    """The scale of attention scores is missing: they are not divided by the root of the head size."""

    record = Record(
        shows="position 0 exact, far too sharp from position 1 on",
        first_tap="layers.0.attn.scores",
        remedy="multiply scores by 1/sqrt(head size)",
        seen_in=("kekzl/imp M04",),
    )

    def scaling(self, right: float, config: Any) -> float:
        return 1.0


class ScaleOfHiddenSize(WrongScale, id="attention.scale_of_hidden_size"):
    """The scale is computed from hidden_size / num_heads and not from head_dim."""

    record = Record(
        shows="position 0 exact, wrong from position 1 on",
        first_tap="layers.0.attn.scores",
        remedy="use head_dim or query_pre_attn_scalar of the config",
        seen_in=("llama.cpp #8444", "TransformerLens #694"),
    )

    def applies(self, config: Any) -> bool:
        """Where the two differ."""
        size = config.hidden_size / config.num_attention_heads
        own = getattr(config, "query_pre_attn_scalar", None) or getattr(config, "head_dim", None) or size
        return super().applies(config) and own != size and not {"attention_multiplier", "kv_lora_rank"} & set(vars(config))

    def scaling(self, right: float, config: Any) -> float:
        return float((config.hidden_size / config.num_attention_heads) ** -0.5)


class SoftcapMissing(WrongAttention, id="attention.softcap_missing"):
    """The soft-cap of attention scores (by tanh) is left out."""

    record = Record(
        shows="heads with large scores only",
        first_tap="layers.0.attn.scores",
        remedy="cap scores: c * tanh(score / c)",
        seen_in=("llama.cpp #8197", "mistral.rs #1928", "sgl-kernel-xpu #491"),
    )

    def applies(self, config: Any) -> bool:
        """Models with such a cap."""
        return super().applies(config) and bool(getattr(config, "attn_logit_softcapping", None))

    def attend(
        self, right: Callable[..., Out], module: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: Any, **rest: Any
    ) -> Out:
        return right(module, q, k, v, mask, **{**rest, "softcap": None})


class SoftmaxLowPrecision(WrongAttention, id="attention.softmax_low_precision"):
    """Probabilities of attention are rounded to bfloat16 before they meet V."""

    record = Record(
        shows="slow, in long contexts more",
        first_tap="layers.0.attn.probs",
        remedy="compute the softmax in float32",
        seen_in=("maxtext #1225",),
    )

    def attend(
        self, right: Callable[..., Out], module: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: Any, **rest: Any
    ) -> Out:
        """V weighted by rounded probabilities."""
        groups = q.shape[1] // k.shape[1]
        k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
        scores = q @ k.transpose(2, 3) * rest["scaling"] + additive(visible(mask, q, k), q)
        probabilities = rounded(scores.float().softmax(-1)).to(q.dtype)
        return (probabilities @ v).transpose(1, 2).contiguous(), probabilities

    def applies(self, config: Any) -> bool:
        """Plain softmax attention, without sinks or caps."""
        return super().applies(config) and not is_special(config)
