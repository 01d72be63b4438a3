"""RoPE is applied twice, as by a fused kernel and the layer around it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from logitproof.mutations.rope._function import Pair, WrongRotation


@dataclass
class Twice(WrongRotation):
    """RoPE is applied twice, as by a fused kernel and the layer around it."""

    bug: ClassVar[str] = "Q and K are rotated twice"
    shows: ClassVar[str] = "position 0 exact, wrong from position 1 on; as if positions were doubled"
    seen_in: ClassVar[tuple[str, ...]] = ("TensorRT-LLM #4040",)
    first_tap: ClassVar[str] = "layers.0.attn.q_rope"
    remedy: ClassVar[str] = "rotate in the attention kernel or before it, not both"

    def rotate(self, right: Callable[..., Pair], q: torch.Tensor, k: torch.Tensor, cos: Any, sin: Any) -> Pair:
        """Turned and turned again."""
        return right(*right(q, k, cos, sin), cos, sin)
