"""Logits are rounded to bfloat16."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from logitproof.mutations._precision import rounded
from logitproof.mutations.head._logits import WrongLogits


@dataclass
class LowPrecision(WrongLogits):
    """Logits are rounded to bfloat16."""

    bug: ClassVar[str] = "logits leave the head in bfloat16"
    shows: ClassVar[str] = "noise of up to 0.4 % of each logit, ties among the largest"
    seen_in: ClassVar[tuple[str, ...]] = ("TRL #4159",)
    first_tap: ClassVar[str] = "logits"
    remedy: ClassVar[str] = "compute the head in float32, or return what it accumulated"

    bits: int = 8

    def reported(self, model: Any, logits: torch.Tensor) -> torch.Tensor:
        """Rounded to so many significant bits: 8 is bfloat16, 11 float16."""
        return rounded(logits, self.bits)
