"""RoPE is applied to Q and not to K."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from logitproof.mutations.rope._function import Pair, WrongRotation


@dataclass
class QOnly(WrongRotation):
    """RoPE is applied to Q and not to K."""

    bug: ClassVar[str] = "K is not rotated"
    shows: ClassVar[str] = "position 0 exact, wrong from position 1 on, large"
    seen_in: ClassVar[tuple[str, ...]] = ("imp M18", "kvcache-ai/sglang #31")
    first_tap: ClassVar[str] = "layers.0.attn.k_rope"
    remedy: ClassVar[str] = "rotate K before it is written to the cache and before it is used"

    def rotate(self, right: Callable[..., Pair], q: torch.Tensor, k: torch.Tensor, cos: Any, sin: Any) -> Pair:
        """Q turned, K as it was."""
        return right(q, k, cos, sin)[0], k
