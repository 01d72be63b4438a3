from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from logitproof.errors import ContractError
from logitproof.metrics import Better, Metric

if TYPE_CHECKING:
    from logitproof.rows.statistics import RowStats

_MOST = 10  # what rowstats keeps


@dataclass
class TopKOverlap(Metric):
    """Share of the reference's k best tokens that are among the candidate's k best, in any order; k up to 10."""

    unit: ClassVar[str] = "share"
    better: ClassVar[Better] = "higher"
    formula: ClassVar[str] = "|top_k z_r ∩ top_k z_t| / k"
    least: ClassVar[float] = 0.0
    greatest: ClassVar[float] = 1.0

    k: int = 5

    def __post_init__(self) -> None:
        if not 1 <= self.k <= _MOST:
            raise ContractError(f"k is {self.k}", remedy=f"give a k from 1 to {_MOST}")

    def compute(self, stats: RowStats) -> np.ndarray:
        reference, candidate = stats.ids_reference[:, : self.k], stats.ids_candidate[:, : self.k]
        shared = (reference[:, :, None] == candidate[:, None, :]) & (reference >= 0)[:, :, None]
        there = (reference >= 0).sum(axis=1)
        return np.where(there > 0, shared.sum(axis=(1, 2)) / np.maximum(there, 1), np.nan)
