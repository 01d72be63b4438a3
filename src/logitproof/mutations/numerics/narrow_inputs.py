"""Activations are rounded before every matrix product."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from logitproof.mutations._precision import rounded
from logitproof.mutations.numerics._linear import WrongProduct


@dataclass
class NarrowInputs(WrongProduct):
    """Activations are rounded before every matrix product."""

    bug: ClassVar[str] = "matrix products read their activations in a narrow type"
    shows: ClassVar[str] = "slow noise at every position, the same with any batch size"
    seen_in: ClassVar[tuple[str, ...]] = ("vLLM #2679",)
    first_tap: ClassVar[str] = "layers.0.attn.q_proj"
    remedy: ClassVar[str] = "switch TF32 and reduced-precision products off"
    grid: ClassVar[dict[str, tuple[Any, ...]]] = {"bits": (8, 11, 4)}

    bits: int = 8

    def product(self, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """So many significant bits: 8 is bfloat16, 11 is TF32 and float16, 4 is float8."""
        return rounded(x, self.bits) @ weight.mT
