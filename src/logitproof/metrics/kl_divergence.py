from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from logitproof.metrics import Better, Metric

if TYPE_CHECKING:
    from logitproof.rows.statistics import RowStats


@dataclass
class KlDivergence(Metric):
    """Kullback-Leibler divergence of the candidate from the reference: reference || candidate, never the other way."""

    unit: ClassVar[str] = "nats"
    better: ClassVar[Better] = "lower"
    formula: ClassVar[str] = "sum p (log p - log q)"
    least: ClassVar[float] = 0.0

    def compute(self, stats: RowStats) -> np.ndarray:
        # Rounding may leave -1e-16 where the rows are the same.
        mass = stats.log_mass_candidate - stats.log_mass_reference
        return np.maximum(mass - stats.p_delta, 0.0)
