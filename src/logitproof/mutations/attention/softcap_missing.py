"""The soft-cap of attention scores is missing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from logitproof.mutations.attention._interface import Out, WrongAttention


@dataclass
class SoftcapMissing(WrongAttention):
    """Scores are not capped by tanh."""

    bug: ClassVar[str] = "the soft-cap of attention scores is left out"
    shows: ClassVar[str] = "heads with large scores only"
    seen_in: ClassVar[tuple[str, ...]] = ("llama.cpp #8197", "mistral.rs #1928", "sgl-kernel-xpu #491")
    first_tap: ClassVar[str] = "layers.0.attn.scores"
    remedy: ClassVar[str] = "cap scores: c * tanh(score / c)"

    def applies(self, config: Any) -> bool:
        """Models with such a cap."""
        return super().applies(config) and bool(getattr(config, "attn_logit_softcapping", None))

    def attend(
        self, right: Callable[..., Out], module: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: Any, **rest: Any
    ) -> Out:
        """Without the cap."""
        return right(module, q, k, v, mask, **{**rest, "softcap": None})
