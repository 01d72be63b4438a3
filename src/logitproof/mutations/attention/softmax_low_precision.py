"""Probabilities of attention are rounded to bfloat16."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from logitproof.mutations._precision import rounded
from logitproof.mutations.attention._interface import Out, WrongAttention, additive, is_special, visible


@dataclass
class SoftmaxLowPrecision(WrongAttention):
    """Probabilities of attention are rounded to bfloat16 before they meet V."""

    bug: ClassVar[str] = "the softmax of attention is kept in low precision"
    shows: ClassVar[str] = "slow, in long contexts more"
    seen_in: ClassVar[tuple[str, ...]] = ("maxtext #1225",)
    first_tap: ClassVar[str] = "layers.0.attn.probs"
    remedy: ClassVar[str] = "compute the softmax in float32"

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
