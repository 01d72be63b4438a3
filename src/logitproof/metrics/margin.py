from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from logitproof.metrics import Better, Metric

if TYPE_CHECKING:
    from logitproof.rows.statistics import RowStats


@dataclass
class Margin(Metric):
    """How far the reference's best token is ahead of its second, in logits; describes the reference alone."""

    unit: ClassVar[str] = "logits"
    better: ClassVar[Better] = "none"
    formula: ClassVar[str] = "top1 z_r - top2 z_r"
    least: ClassVar[float] = 0.0

    def compute(self, stats: RowStats) -> np.ndarray:
        return stats.top_reference[:, 0] - stats.top_reference[:, 1]
