from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from logitproof.metrics import Better, Metric

if TYPE_CHECKING:
    from logitproof.rows.statistics import RowStats


@dataclass
class Cosine(Metric):
    """Cosine of the angle between the two rows of logits."""

    unit: ClassVar[str] = "cosine"
    better: ClassVar[Better] = "higher"
    formula: ClassVar[str] = "sum z_r z_t / sqrt(sum z_r^2 sum z_t^2)"
    least: ClassVar[float] = -1.0
    greatest: ClassVar[float] = 1.0

    def compute(self, stats: RowStats) -> np.ndarray:
        # Two square roots, because the product of the sums may overflow; a row of zeros is not measured.
        with np.errstate(invalid="ignore", divide="ignore"):
            ratio = stats.product / np.sqrt(stats.square_reference) / np.sqrt(stats.square_candidate)
        return np.clip(ratio, -1.0, 1.0)
