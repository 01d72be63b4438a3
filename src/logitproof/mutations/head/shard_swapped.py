"""Two halves of the vocabulary are exchanged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from logitproof.mutations.head._logits import WrongLogits


@dataclass
class ShardSwapped(WrongLogits):
    """Two halves of the vocabulary are exchanged."""

    bug: ClassVar[str] = "the shards of a head that is split over devices are joined in the wrong order"
    shows: ClassVar[str] = "logits of the right size at the wrong ids: sorted they agree"
    seen_in: ClassVar[tuple[str, ...]] = ()
    first_tap: ClassVar[str] = "logits"
    remedy: ClassVar[str] = "join shards by rank"

    def reported(self, model: Any, logits: torch.Tensor) -> torch.Tensor:
        """The second half first."""
        return logits.roll(logits.shape[-1] // 2, dims=-1)
