"""The sliding window is ignored."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from logitproof.mutations.attention._interface import Out, WrongAttention, additive, ages, has_window, visible


@dataclass
class WindowIgnored(WrongAttention):
    """The sliding window is ignored: every layer sees the whole context."""

    bug: ClassVar[str] = "layers with a sliding window attend to everything before"
    shows: ClassVar[str] = "exact until the sequence is longer than the window, then growing with position"
    seen_in: ClassVar[tuple[str, ...]] = ("llama.cpp #7709", "mistral.rs #246", "vllm-metal #282")
    first_tap: ClassVar[str] = "layers.0.attn.probs"
    remedy: ClassVar[str] = "mask keys that lie outside the window, in the layers that have one"

    def applies(self, config: Any) -> bool:
        """Models with a window that is in use."""
        return super().applies(config) and has_window(config)

    def attend(
        self, right: Callable[..., Out], module: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: Any, **rest: Any
    ) -> Out:
        """All keys before are seen."""
        seen = visible(mask, q, k)
        return right(
            module, q, k, v, additive((ages(seen) >= 0).expand_as(seen) if rest.get("sliding_window") else seen, q), **rest
        )
