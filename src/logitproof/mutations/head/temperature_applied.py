"""Reported logits are those after the temperature."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from logitproof.mutations.head._logits import WrongLogits


@dataclass
class TemperatureApplied(WrongLogits):
    """Reported logits are those after the temperature."""

    bug: ClassVar[str] = "logits are divided by a sampling temperature before they are reported"
    shows: ClassVar[str] = "all logits off by one factor: greedy text and cosine are exact"
    seen_in: ClassVar[tuple[str, ...]] = ("vLLM #5334",)
    first_tap: ClassVar[str] = "logits"
    remedy: ClassVar[str] = "report logits before any sampling step, or set the temperature to one"
    grid: ClassVar[dict[str, tuple[Any, ...]]] = {"temperature": (0.7, 0.8, 0.6)}
    ranges: ClassVar[dict[str, tuple[float, float]]] = {"temperature": (0.1, 5.0)}

    temperature: float = 0.7

    def reported(self, model: Any, logits: torch.Tensor) -> torch.Tensor:
        """Divided by the temperature."""
        return logits / self.temperature
