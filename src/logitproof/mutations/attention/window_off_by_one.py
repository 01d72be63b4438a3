"""The sliding window is one key too long or too short."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from logitproof.mutations.attention._interface import Out, WrongAttention, additive, ages, has_window, visible


@dataclass
class WindowOffByOne(WrongAttention):
    """The sliding window is one key too long or too short."""

    bug: ClassVar[str] = "the sliding window is off by one"
    shows: ClassVar[str] = "exact until the sequence is longer than the window, then tiny"
    seen_in: ClassVar[tuple[str, ...]] = ("transformers #29623", "vLLM #3385", "NVIDIA-NeMo/Speech #9672")
    first_tap: ClassVar[str] = "layers.0.attn.probs"
    remedy: ClassVar[str] = "a window of W lets a query see itself and W - 1 keys before"
    grid: ClassVar[dict[str, tuple[Any, ...]]] = {"more": (1, -1)}

    more: int = -1

    def applies(self, config: Any) -> bool:
        """Models with a window that is in use."""
        return super().applies(config) and has_window(config)

    def attend(
        self, right: Callable[..., Out], module: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: Any, **rest: Any
    ) -> Out:
        """Keys at the edge of the window are hidden or shown."""
        seen, window = visible(mask, q, k), rest.get("sliding_window")
        if window:
            age = ages(seen)
            seen = seen & (age < window + self.more) if self.more < 0 else seen | ((age >= 0) & (age < window + self.more))
        return right(module, q, k, v, additive(seen, q), **rest)
