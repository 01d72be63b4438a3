from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from logitproof.metrics import Better, Metric

if TYPE_CHECKING:
    from logitproof.rows.statistics import RowStats


@dataclass
class Nmse(Metric):
    """Normalized mean square error of the logits as ggml's test-backend-ops has it; no shift is removed."""

    unit: ClassVar[str] = "ratio"
    better: ClassVar[Better] = "lower"
    formula: ClassVar[str] = "sum (z_t - z_r)^2 / sum z_r^2"
    least: ClassVar[float] = 0.0

    def compute(self, stats: RowStats) -> np.ndarray:
        # A reference of zeros is not measured, or infinitely far.
        with np.errstate(invalid="ignore", divide="ignore"):
            return stats.square_delta / stats.square_reference
