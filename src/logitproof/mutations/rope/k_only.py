"""RoPE is applied to K and not to Q."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from logitproof.mutations.rope._function import Pair, WrongRotation


@dataclass
class KOnly(WrongRotation):
    """RoPE is applied to K and not to Q."""

    bug: ClassVar[str] = "Q is not rotated"
    shows: ClassVar[str] = "position 0 exact, wrong from position 1 on, large"
    seen_in: ClassVar[tuple[str, ...]] = ()
    first_tap: ClassVar[str] = "layers.0.attn.q_rope"
    remedy: ClassVar[str] = "rotate Q as well as K"

    def rotate(self, right: Callable[..., Pair], q: torch.Tensor, k: torch.Tensor, cos: Any, sin: Any) -> Pair:
        """K turned, Q as it was."""
        return q, right(q, k, cos, sin)[1]
