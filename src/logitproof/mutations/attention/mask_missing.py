"""There is no causal mask."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from logitproof.mutations.attention._interface import Out, WrongAttention, additive, visible


@dataclass
class MaskMissing(WrongAttention):
    """There is no causal mask."""

    bug: ClassVar[str] = "every query sees every key"
    shows: ClassVar[str] = "prefill only: every position but the last wrong"
    seen_in: ClassVar[tuple[str, ...]] = ("mlxcel #998", "mlxcel #1001", "higgs #203")
    first_tap: ClassVar[str] = "layers.0.attn.probs"
    remedy: ClassVar[str] = "mask keys that come later"

    def attend(
        self, right: Callable[..., Out], module: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: Any, **rest: Any
    ) -> Out:
        """Everything is seen."""
        return right(module, q, k, v, additive(torch.ones_like(visible(mask, q, k)), q), **rest)
