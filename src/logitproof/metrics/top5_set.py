from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from logitproof.metrics import Better, Metric

if TYPE_CHECKING:
    from logitproof.rows.statistics import RowStats


@dataclass
class Top5Set(Metric):
    """Whether both rows have the same five best tokens, in any order, 1 or 0."""

    unit: ClassVar[str] = "share"
    better: ClassVar[Better] = "higher"
    formula: ClassVar[str] = "top5 z_r = top5 z_t, as sets"
    least: ClassVar[float] = 0.0
    greatest: ClassVar[float] = 1.0

    def compute(self, stats: RowStats) -> np.ndarray:
        reference, candidate = np.sort(stats.ids_reference[:, :5], axis=1), np.sort(stats.ids_candidate[:, :5], axis=1)
        return np.where((stats.ids_reference[:, 0] >= 0), (reference == candidate).all(axis=1), np.nan)
