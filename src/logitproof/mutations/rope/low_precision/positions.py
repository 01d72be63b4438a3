"""Position ids are kept in bfloat16: exact up to 256, then every second one, and so on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from logitproof.mutations._precision import rounded
from logitproof.mutations.rope._tables import WrongPositions


@dataclass
class Positions(WrongPositions):
    """Position ids are kept in bfloat16: exact up to 256, then every second one, and so on."""

    bug: ClassVar[str] = "position ids are rounded to bfloat16"
    shows: ClassVar[str] = "exact up to position 256, then in steps that grow with position"
    seen_in: ClassVar[tuple[str, ...]] = ("NxDI guide", "Automodel pitfalls 5")
    first_tap: ClassVar[str] = "layers.0.attn.q_rope"
    remedy: ClassVar[str] = "keep position ids in an integer type"
    needs: ClassVar[str] = "more than 256 positions"

    def positions(self, right: torch.Tensor) -> torch.Tensor:
        """Eight significant bits."""
        return rounded(right.float()).to(right.dtype)
