from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from logitproof.metrics import Better, Metric

if TYPE_CHECKING:
    from logitproof.rows.statistics import RowStats


@dataclass
class KnownMass(Metric):
    """Probability, under the reference, of the tokens that both rows name: how much of the row was compared.

    1 where both rows are whole; less of an engine that gives the best K tokens only.
    """

    unit: ClassVar[str] = "share"
    better: ClassVar[Better] = "one"
    formula: ClassVar[str] = "sum p_i over the i that both name"
    least: ClassVar[float] = 0.0
    greatest: ClassVar[float] = 1.0

    def compute(self, stats: RowStats) -> np.ndarray:
        return np.where(np.isnan(stats.log_mass_reference), np.nan, 1.0)
