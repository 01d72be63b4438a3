from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from logitproof.metrics import Better, Metric

if TYPE_CHECKING:
    from logitproof.rows.statistics import RowStats


@dataclass
class KlReverse(Metric):
    """Kullback-Leibler divergence the other way round: candidate || reference."""

    unit: ClassVar[str] = "nats"
    better: ClassVar[Better] = "lower"
    formula: ClassVar[str] = "sum q (log q - log p)"
    least: ClassVar[float] = 0.0

    def compute(self, stats: RowStats) -> np.ndarray:
        mass = stats.log_mass_candidate - stats.log_mass_reference
        return np.maximum(stats.q_delta - mass, 0.0)
