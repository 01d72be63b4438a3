"""Every position is one too large, in the prompt and in decode."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from logitproof.mutations.rope._tables import RECOMPUTED, WrongPositions, by_kind


@dataclass
class Offset(WrongPositions):
    """Every position is one too large, in the prompt and in decode."""

    bug: ClassVar[str] = "positions begin at 1 instead of 0"
    shows: ClassVar[str] = "nothing: RoPE knows only differences of positions"
    seen_in: ClassVar[tuple[str, ...]] = ("imp M19",)
    first_tap: ClassVar[str] = "layers.0.attn.q_rope"
    remedy: ClassVar[str] = "count positions from 0, so that absolute positions and ALiBi stay right"
    equivalent: ClassVar[str] = (
        "q R(m+1) and k R(n+1) have the product q R(m-n) k for every m and n, since R(a) R(b)' = R(a-b); "
        "the mask, the window and the cache keep their own positions, so no score changes beyond rounding"
    )

    def applies(self, config: Any) -> bool:
        """Models whose table does not depend on the last position, for which the proof holds."""
        kinds = {one.get("rope_type") for one in by_kind(config).values()}
        return super().applies(config) and not kinds & set(RECOMPUTED)

    def positions(self, right: torch.Tensor) -> torch.Tensor:
        """One more."""
        return right + 1
