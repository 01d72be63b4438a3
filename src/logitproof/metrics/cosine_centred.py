from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from logitproof.metrics import Better, Metric

if TYPE_CHECKING:
    from logitproof.rows.statistics import RowStats


@dataclass
class CosineCentred(Metric):
    """Cosine of the rows of logits less their means: Pearson's correlation (PCC)."""

    unit: ClassVar[str] = "cosine"
    better: ClassVar[Better] = "higher"
    formula: ClassVar[str] = "the cosine of z_r - mean z_r and z_t - mean z_t"
    least: ClassVar[float] = -1.0
    greatest: ClassVar[float] = 1.0

    def compute(self, stats: RowStats) -> np.ndarray:
        # A constant row has no direction: not measured.
        with np.errstate(invalid="ignore", divide="ignore"):
            ratio = stats.centred_product / np.sqrt(stats.centred_square_reference)
            ratio /= np.sqrt(stats.centred_square_candidate)
        return np.clip(ratio, -1.0, 1.0)
