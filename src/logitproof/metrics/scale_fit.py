from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from logitproof.metrics import Better, Metric

if TYPE_CHECKING:
    from logitproof.rows.statistics import RowStats


@dataclass
class ScaleFit(Metric):
    """Least-squares scale of the candidate's logits; not 1 means a temperature, a soft cap or a multiplier."""

    unit: ClassVar[str] = "ratio"
    better: ClassVar[Better] = "one"
    formula: ClassVar[str] = "a of z_t ~ a z_r + b"

    def compute(self, stats: RowStats) -> np.ndarray:
        return stats.scale
