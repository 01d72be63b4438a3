"""Half of the vocabulary has no logits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from logitproof.mutations.head._logits import WrongLogits


@dataclass
class ShardLost(WrongLogits):
    """Half of the vocabulary has no logits."""

    bug: ClassVar[str] = "the second shard of the head is not gathered"
    shows: ClassVar[str] = "half of the logits zero"
    seen_in: ClassVar[tuple[str, ...]] = ()
    first_tap: ClassVar[str] = "logits"
    remedy: ClassVar[str] = "gather the logits of all ranks"

    def reported(self, model: Any, logits: torch.Tensor) -> torch.Tensor:
        """Zeros in the second half."""
        return torch.cat([logits[..., : logits.shape[-1] // 2], torch.zeros_like(logits[..., logits.shape[-1] // 2 :])], dim=-1)
