"""RMS norms compute in bfloat16."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from logitproof.mutations._precision import rounded
from logitproof.mutations.norm._norms import WrongNorm, eps, scale


@dataclass
class LowPrecision(WrongNorm):
    """RMS norms compute in bfloat16."""

    bug: ClassVar[str] = "norms round the squares, their mean and its root to a narrow type"
    shows: ClassVar[str] = "slow, the same direction in every norm, growing with depth"
    seen_in: ClassVar[tuple[str, ...]] = ("amd/IRON #139", "EasyLM #50")
    first_tap: ClassVar[str] = "layers.0.attn_norm"
    remedy: ClassVar[str] = "normalize in float32 and round once, at the end"

    def normed(self, norm: Any, x: torch.Tensor) -> torch.Tensor:
        """Every step rounded to eight significant bits."""
        wide = rounded(x.float())
        root = rounded(torch.rsqrt(rounded(rounded(wide.square()).mean(-1, keepdim=True)) + eps(norm)))
        return rounded(rounded(wide * root) * scale(norm)).to(x.dtype)
