"""Row t holds the logits of position t - 1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from logitproof.mutations.head._logits import WrongLogits


@dataclass
class OnePositionLate(WrongLogits):
    """Row t holds the logits of position t - 1."""

    bug: ClassVar[str] = "logits are reported one position late"
    shows: ClassVar[str] = "position 0 exact, then every row is the row before: perplexity of a random guess"
    seen_in: ClassVar[tuple[str, ...]] = ("maxtext #2103", "dynamo #12934")
    first_tap: ClassVar[str] = "logits"
    remedy: ClassVar[str] = "row t predicts token t + 1"

    def reported(self, model: Any, logits: torch.Tensor) -> torch.Tensor:
        """The rows shifted by one; the first stays."""
        return torch.cat([logits[:, :1], logits[:, :-1]], dim=1)
