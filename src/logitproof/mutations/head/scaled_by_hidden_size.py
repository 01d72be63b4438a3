"""Logits are divided by the root of the hidden size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from logitproof.mutations.head._logits import WrongLogits


@dataclass
class ScaledByHiddenSize(WrongLogits):
    """Logits are divided by the root of the hidden size."""

    bug: ClassVar[str] = "the head scales as attention does"
    shows: ClassVar[str] = "all logits off by one factor: greedy text and cosine are exact"
    seen_in: ClassVar[tuple[str, ...]] = ()
    first_tap: ClassVar[str] = "logits"
    remedy: ClassVar[str] = "do not scale logits"

    def reported(self, model: Any, logits: torch.Tensor) -> torch.Tensor:
        """Divided by the root."""
        return logits / float(model.config.hidden_size) ** 0.5
