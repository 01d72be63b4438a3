from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from logitproof.metrics import Better, Metric

if TYPE_CHECKING:
    from logitproof.rows.statistics import RowStats


@dataclass
class MaxDeltaLogit(Metric):
    """Largest logit difference once the mean difference is taken off, which softmax does not see."""

    unit: ClassVar[str] = "logits"
    better: ClassVar[Better] = "lower"
    formula: ClassVar[str] = "max |delta - mean delta|, delta = z_t - z_r"
    least: ClassVar[float] = 0.0

    def compute(self, stats: RowStats) -> np.ndarray:
        return stats.max_centred_delta
