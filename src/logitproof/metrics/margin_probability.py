from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from logitproof.metrics import Better, Metric

if TYPE_CHECKING:
    from logitproof.rows.statistics import RowStats


@dataclass
class MarginProbability(Metric):
    """How far the reference's best token is ahead of its second, in probability; describes the reference alone."""

    unit: ClassVar[str] = "probability"
    better: ClassVar[Better] = "none"
    formula: ClassVar[str] = "top1 p - top2 p"
    least: ClassVar[float] = 0.0
    greatest: ClassVar[float] = 1.0

    def compute(self, stats: RowStats) -> np.ndarray:
        top = stats.top_reference[:, :2] - stats.max_reference[:, None] - stats.log_mass_reference[:, None]
        p = np.exp(top)
        return p[:, 0] - p[:, 1]
