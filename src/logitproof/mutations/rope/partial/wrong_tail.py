"""The last dimensions of a head are rotated where the model rotates the first ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from logitproof.mutations.rope._function import Pair, WrongRotation, head_size, is_split_half, rotary_dimensions


@dataclass
class WrongTail(WrongRotation):
    """The last dimensions of a head are rotated where the model rotates the first ones."""

    bug: ClassVar[str] = "partial RoPE rotates the last dimensions of a head instead of the first"
    shows: ClassVar[str] = "position 0 exact, wrong from position 1 on, growing with position; Q and K both"
    seen_in: ClassVar[tuple[str, ...]] = ("MaxText 942563445", "llama.cpp #12957")
    first_tap: ClassVar[str] = "layers.0.attn.q_rope"
    remedy: ClassVar[str] = "rotate the first dimensions and pass the tail through"

    def applies(self, config: Any) -> bool:
        """Split-half models that rotate a part of each head."""
        return is_split_half(config) and rotary_dimensions(config) < head_size(config)

    def rotate(self, right: Callable[..., Pair], q: torch.Tensor, k: torch.Tensor, cos: Any, sin: Any) -> Pair:
        """The last R dimensions."""
        at = q.shape[-1] - cos.shape[-1]
        turned = right(q[..., at:], k[..., at:], cos, sin)
        return torch.cat((q[..., :at], turned[0]), -1), torch.cat((k[..., :at], turned[1]), -1)
