"""Cosine and sine are exchanged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from logitproof.mutations.rope._function import Pair, WrongRotation


@dataclass
class CosSinSwapped(WrongRotation):
    """Cosine and sine are exchanged."""

    bug: ClassVar[str] = "the tables of cosine and sine are swapped"
    shows: ClassVar[str] = "position 0 exact at the logits, its rotated Q and K already wrong; later positions wrong"
    seen_in: ClassVar[tuple[str, ...]] = ()
    first_tap: ClassVar[str] = "layers.0.attn.q_rope"
    remedy: ClassVar[str] = "hand cosine first"

    def rotate(self, right: Callable[..., Pair], q: torch.Tensor, k: torch.Tensor, cos: Any, sin: Any) -> Pair:
        """The cosine where the sine belongs."""
        return right(q, k, sin, cos)
