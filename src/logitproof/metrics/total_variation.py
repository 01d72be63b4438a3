from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from logitproof.metrics import Better, Metric

if TYPE_CHECKING:
    from logitproof.rows.statistics import RowStats


@dataclass
class TotalVariation(Metric):
    """Total variation distance: the largest difference in probability of any set of tokens, 0 to 1."""

    unit: ClassVar[str] = "probability"
    better: ClassVar[Better] = "lower"
    formula: ClassVar[str] = "sum |p - q| / 2"
    least: ClassVar[float] = 0.0
    greatest: ClassVar[float] = 1.0

    def compute(self, stats: RowStats) -> np.ndarray:
        return np.minimum(stats.abs_difference / 2.0, 1.0)
