from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from logitproof.metrics import Better, Metric

if TYPE_CHECKING:
    from logitproof.rows.statistics import RowStats


@dataclass
class LabelLogprobDelta(Metric):
    """Change of the log-probability of the next token; its mean is minus the log of the perplexity ratio."""

    unit: ClassVar[str] = "nats"
    better: ClassVar[Better] = "zero"
    formula: ClassVar[str] = "log q(y) - log p(y)"

    def compute(self, stats: RowStats) -> np.ndarray:
        log_q = stats.label_candidate - stats.max_candidate - stats.log_mass_candidate
        log_p = stats.label_reference - stats.max_reference - stats.log_mass_reference
        # A label masked in both rows has no log-probability: -inf less -inf is not measured.
        with np.errstate(invalid="ignore"):
            return log_q - log_p
