from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from logitproof.metrics import Better, Metric

if TYPE_CHECKING:
    from logitproof.rows.statistics import RowStats


@dataclass
class Top1(Metric):
    """Whether both rows have the same largest logit, 1 or 0; equal logits go to the lowest id."""

    unit: ClassVar[str] = "share"
    better: ClassVar[Better] = "higher"
    formula: ClassVar[str] = "argmax z_r = argmax z_t"
    least: ClassVar[float] = 0.0
    greatest: ClassVar[float] = 1.0

    def compute(self, stats: RowStats) -> np.ndarray:
        same = stats.ids_reference[:, 0] == stats.ids_candidate[:, 0]
        return np.where(stats.ids_reference[:, 0] >= 0, same, np.nan)
