from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from logitproof.metrics import Better, Metric

if TYPE_CHECKING:
    from logitproof.rows.statistics import RowStats


@dataclass
class Regret(Metric):
    """What the candidate's choice costs under the reference: 0 where both choose the same."""

    unit: ClassVar[str] = "nats"
    better: ClassVar[Better] = "lower"
    formula: ClassVar[str] = "log p(argmax p) - log p(argmax q)"
    least: ClassVar[float] = 0.0

    def compute(self, stats: RowStats) -> np.ndarray:
        return stats.max_reference - stats.reference_at_candidate_top1
