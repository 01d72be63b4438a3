"""RoPE is not applied at all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from logitproof.mutations.rope._function import Pair, WrongRotation


@dataclass
class Missing(WrongRotation):
    """RoPE is not applied at all."""

    bug: ClassVar[str] = "neither Q nor K is rotated"
    shows: ClassVar[str] = "position 0 exact, wrong from position 1 on; the order of the earlier tokens is not seen"
    seen_in: ClassVar[tuple[str, ...]] = ()
    first_tap: ClassVar[str] = "layers.0.attn.q_rope"
    remedy: ClassVar[str] = "rotate Q and K in every layer that has RoPE"

    def rotate(self, right: Callable[..., Pair], q: torch.Tensor, k: torch.Tensor, cos: Any, sin: Any) -> Pair:
        """Both as they were."""
        return q, k
