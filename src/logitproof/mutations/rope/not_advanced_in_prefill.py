"""All tokens of one pass are rotated by the position of its first one, as if fed one by one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from logitproof.mutations.rope._tables import WrongPositions


@dataclass
class NotAdvancedInPrefill(WrongPositions):
    """All tokens of one pass are rotated by the position of its first one, as if fed one by one."""

    bug: ClassVar[str] = "positions do not advance within a pass of several tokens"
    shows: ClassVar[str] = "position 0 exact, wrong from position 1 on; prefill differs from token by token, which is exact"
    seen_in: ClassVar[tuple[str, ...]] = ("1bit-MONSTER #2052",)
    first_tap: ClassVar[str] = "layers.0.attn.q_rope"
    remedy: ClassVar[str] = "give each token of a batched prefill its own position"

    def positions(self, right: torch.Tensor) -> torch.Tensor:
        """The position of the pass's first token, for all of them."""
        return right[..., :1].expand_as(right)
