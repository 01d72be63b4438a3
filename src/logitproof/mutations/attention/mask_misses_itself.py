"""The causal mask hides a query's own key."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from logitproof.mutations.attention._interface import Out, WrongAttention, additive, ages, visible


@dataclass
class MaskMissesItself(WrongAttention):
    """The causal mask hides a query's own key, except from the first."""

    bug: ClassVar[str] = "the causal mask is off by one: no query but the first sees its own key"
    shows: ClassVar[str] = "position 0 exact, wrong from position 1 on, in decode too"
    seen_in: ClassVar[tuple[str, ...]] = ("kekzl/imp M06",)
    first_tap: ClassVar[str] = "layers.0.attn.probs"
    remedy: ClassVar[str] = "let a query see the key of its own position"

    def attend(
        self, right: Callable[..., Out], module: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: Any, **rest: Any
    ) -> Out:
        """The own key is hidden from all but the first."""
        seen = visible(mask, q, k)
        age = ages(seen)
        first = torch.arange(age.shape[1], device=age.device) == 0
        return right(module, q, k, v, additive(seen & ((age != 0) | first), q), **rest)
