from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from logitproof.metrics import Better, Metric

if TYPE_CHECKING:
    from logitproof.rows.statistics import RowStats


@dataclass
class JsDivergence(Metric):
    """Jensen-Shannon divergence: symmetric, at most ln 2."""

    unit: ClassVar[str] = "nats"
    better: ClassVar[Better] = "lower"
    formula: ClassVar[str] = "(KL(p || m) + KL(q || m)) / 2, m = (p + q) / 2"
    least: ClassVar[float] = 0.0
    greatest: ClassVar[float] = math.log(2.0)

    def compute(self, stats: RowStats) -> np.ndarray:
        return np.minimum(stats.jensen_shannon, np.log(2.0))
