"""The first key is hidden from all later queries."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from logitproof.mutations.attention._interface import Out, WrongAttention, additive, ages, visible


@dataclass
class FirstKeyHidden(WrongAttention):
    """The first key, on which models rest their attention, is hidden from all later queries."""

    bug: ClassVar[str] = "the key of the first position is lost"
    shows: ClassVar[str] = "position 0 exact, large from position 1 on"
    seen_in: ClassVar[tuple[str, ...]] = ("openai/gpt-oss #196",)
    first_tap: ClassVar[str] = "layers.0.attn.probs"
    remedy: ClassVar[str] = "begin the loop over keys at zero"

    def attend(
        self, right: Callable[..., Out], module: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: Any, **rest: Any
    ) -> Out:
        """Only the first query sees it."""
        seen = visible(mask, q, k)
        first = torch.arange(seen.shape[-1], device=q.device) == 0
        return right(module, q, k, v, additive(seen & (~first | (ages(seen) == 0)), q), **rest)
