from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from logitproof.metrics import Better, Metric

if TYPE_CHECKING:
    from logitproof.rows.statistics import RowStats


@dataclass
class Top5RankAgreement(Metric):
    """Share of the first five ranks that hold the same token in both rows."""

    unit: ClassVar[str] = "share"
    better: ClassVar[Better] = "higher"
    formula: ClassVar[str] = "sum over ranks i < 5 of [top_i z_r = top_i z_t] / 5"
    least: ClassVar[float] = 0.0
    greatest: ClassVar[float] = 1.0

    def compute(self, stats: RowStats) -> np.ndarray:
        reference, candidate = stats.ids_reference[:, :5], stats.ids_candidate[:, :5]
        there = (reference >= 0).sum(axis=1)
        agree = ((reference == candidate) & (reference >= 0)).sum(axis=1)
        return np.where(there > 0, agree / np.maximum(there, 1), np.nan)
