"""Activations are clipped by a scale that was calibrated elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from logitproof.mutations.numerics._linear import WrongProduct


@dataclass
class ActivationsClipped(WrongProduct):
    """Activations are clipped by a scale that was calibrated elsewhere."""

    bug: ClassVar[str] = "static quantization clips the largest activations"
    shows: ClassVar[str] = "exact for most tokens, wrong where an activation passes the clip"
    seen_in: ClassVar[tuple[str, ...]] = ()
    first_tap: ClassVar[str] = "layers.0.attn.q_proj"
    remedy: ClassVar[str] = "calibrate on the model and the data that are used, or scale each row by its own largest value"
    deviations: float = 2.5

    def product(self, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """Cut at so many times the root mean square of the row."""
        limit = self.deviations * x.square().mean(-1, keepdim=True).sqrt()
        return x.clamp(-limit, limit) @ weight.mT
