"""Q and K are rotated the other way round."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from logitproof.mutations.rope._function import Pair, WrongRotation


@dataclass
class Sign(WrongRotation):
    """Q and K are rotated the other way round."""

    bug: ClassVar[str] = "RoPE turns by the negative angle"
    shows: ClassVar[str] = "position 0 exact, wrong from position 1 on, growing with position"
    seen_in: ClassVar[tuple[str, ...]] = ()
    first_tap: ClassVar[str] = "layers.0.attn.q_rope"
    remedy: ClassVar[str] = "the second half of a pair gets +sin, the first -sin"

    def rotate(self, right: Callable[..., Pair], q: torch.Tensor, k: torch.Tensor, cos: Any, sin: Any) -> Pair:
        """By the negative angle."""
        return right(q, k, cos, -sin)
