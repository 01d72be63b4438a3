"""Rows of the embedding have fewer bits than the file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from logitproof.mutations._precision import rounded
from logitproof.mutations.embedding._rows import WrongEmbedding


@dataclass
class LowPrecision(WrongEmbedding):
    """Rows of the embedding have fewer bits than the file."""

    bug: ClassVar[str] = "the embedding is rounded when it is looked up"
    shows: ClassVar[str] = "slow noise from the embedding on"
    seen_in: ClassVar[tuple[str, ...]] = ()
    first_tap: ClassVar[str] = "embedding"
    remedy: ClassVar[str] = "look rows up in the type that they are stored in"
    grid: ClassVar[dict[str, tuple[Any, ...]]] = {"bits": (4, 7)}

    bits: int = 4

    def embedded(self, model: Any, token_ids: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """So many significant bits: 4 is float8, 7 an integer of eight."""
        return rounded(rows, self.bits)
