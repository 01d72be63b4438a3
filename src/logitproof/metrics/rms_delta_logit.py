from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from logitproof.metrics import Better, Metric

if TYPE_CHECKING:
    from logitproof.rows.statistics import RowStats


@dataclass
class RmsDeltaLogit(Metric):
    """Root mean square logit difference once the mean difference is taken off, which softmax does not see."""

    unit: ClassVar[str] = "logits"
    better: ClassVar[Better] = "lower"
    formula: ClassVar[str] = "sqrt(mean (delta - mean delta)^2), delta = z_t - z_r"
    least: ClassVar[float] = 0.0

    def compute(self, stats: RowStats) -> np.ndarray:
        # Nothing in the support divides 0 by 0: not measured.
        with np.errstate(invalid="ignore"):
            return np.sqrt(stats.centred_square_delta / stats.support)
