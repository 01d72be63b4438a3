"""Rows of the head for added tokens hold nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from logitproof.mutations.head._logits import WrongLogits


@dataclass
class TailRowsZero(WrongLogits):
    """Rows of the head for added tokens hold nothing."""

    bug: ClassVar[str] = "the last rows of the head, those of added tokens, are zero"
    shows: ClassVar[str] = "a few logits zero, all others exact"
    seen_in: ClassVar[tuple[str, ...]] = ()
    first_tap: ClassVar[str] = "logits"
    remedy: ClassVar[str] = "copy all rows when the vocabulary is enlarged"
    rows: int = 5

    def reported(self, model: Any, logits: torch.Tensor) -> torch.Tensor:
        """Zeros for the last ids."""
        logits = logits.clone()
        logits[..., -self.rows :] = 0
        return logits
