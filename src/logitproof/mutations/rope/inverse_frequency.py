"""Angles are position x base^(2i/D) instead of position / base^(2i/D)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from logitproof.mutations.rope._tables import WrongFrequencies


@dataclass
class InverseFrequency(WrongFrequencies):
    """Angles are position x base^(2i/D) instead of position / base^(2i/D)."""

    bug: ClassVar[str] = "RoPE turns by the inverse of the inverse frequencies"
    shows: ClassVar[str] = "position 0 exact, wrong from position 1 on, large at once at position 1"
    seen_in: ClassVar[tuple[str, ...]] = ("mlx-lm #1189",)
    first_tap: ClassVar[str] = "layers.0.attn.q_rope"
    remedy: ClassVar[str] = "pass inverse frequencies where they are asked for, and wavelengths where those are"

    def frequencies(self, right: torch.Tensor, config: Any) -> torch.Tensor:
        """The wavelength."""
        return 1 / right
