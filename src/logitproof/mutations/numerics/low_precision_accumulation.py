"""Sums of products are kept in a narrow type."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from logitproof.mutations._precision import rounded
from logitproof.mutations.numerics._linear import WrongProduct


@dataclass
class LowPrecisionAccumulation(WrongProduct):
    """Sums of products are kept in a narrow type."""

    bug: ClassVar[str] = "matrix products accumulate in bfloat16"
    shows: ClassVar[str] = "slow, grows with the inner size of matrices and with depth"
    seen_in: ClassVar[tuple[str, ...]] = ("vLLM #2679",)
    first_tap: ClassVar[str] = "layers.0.attn.q_proj"
    remedy: ClassVar[str] = "accumulate in float32"
    grid: ClassVar[dict[str, tuple[Any, ...]]] = {"bits": (8, 11)}

    bits: int = 8

    def product(self, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """Partial sums over blocks of sixteen, the running sum rounded to so many bits: 8 is bfloat16, 11 float16."""
        total = torch.zeros((*x.shape[:-1], len(weight)), dtype=x.dtype, device=x.device)
        for left, right in zip(x.split(16, dim=-1), weight.split(16, dim=-1), strict=True):
            total = rounded(total + left @ right.mT, self.bits)
        return total
