"""The second position gets the first token's row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from logitproof.mutations.embedding._rows import WrongEmbedding


@dataclass
class FirstTokenRepeated(WrongEmbedding):
    """The second position gets the first token's row."""

    bug: ClassVar[str] = "the token at position 1 is fed as that of position 0"
    shows: ClassVar[str] = "position 0 exact, wrong from position 1 on"
    seen_in: ClassVar[tuple[str, ...]] = ()
    first_tap: ClassVar[str] = "embedding"
    remedy: ClassVar[str] = "advance the ids with the position"

    def embedded(self, model: Any, token_ids: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Row 0 in place of row 1 where there are more than one."""
        if rows.shape[1] < 2:
            return rows
        return torch.cat([rows[:, :1], rows[:, :1], rows[:, 2:]], dim=1)
