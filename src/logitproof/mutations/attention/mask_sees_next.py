"""The causal mask lets a query see the next key."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from logitproof.mutations.attention._interface import Out, WrongAttention, additive, ages, visible


@dataclass
class MaskSeesNext(WrongAttention):
    """The causal mask lets a query see the next key."""

    bug: ClassVar[str] = "the causal mask is off by one: each query sees the key after its own"
    shows: ClassVar[str] = "prefill only: position 0 wrong, the loss too low; decode exact"
    seen_in: ClassVar[tuple[str, ...]] = ("kekzl/imp M01",)
    first_tap: ClassVar[str] = "layers.0.attn.probs"
    remedy: ClassVar[str] = "mask keys whose position is greater than the query's"

    def attend(
        self, right: Callable[..., Out], module: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: Any, **rest: Any
    ) -> Out:
        """The next key is let through."""
        seen = visible(mask, q, k)
        return right(module, q, k, v, additive(seen | (ages(seen) == -1), q), **rest)
