"""Log-probabilities are reported for logits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from logitproof.mutations.head._logits import WrongLogits


@dataclass
class LogProbabilities(WrongLogits):
    """Log-probabilities are reported for logits."""

    bug: ClassVar[str] = "the log-softmax is reported"
    shows: ClassVar[str] = "each row off by a constant: no distribution changes"
    seen_in: ClassVar[tuple[str, ...]] = ()
    first_tap: ClassVar[str] = "logits"
    equivalent: ClassVar[str] = "softmax(z - c) = softmax(z): a constant taken off a whole row changes no probability"
    remedy: ClassVar[str] = "compare after log-softmax, or report logits"

    def reported(self, model: Any, logits: torch.Tensor) -> torch.Tensor:
        """The log-softmax."""
        return torch.log_softmax(logits, dim=-1)
