from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from logitproof.metrics import Better, Metric

if TYPE_CHECKING:
    from logitproof.rows.statistics import RowStats


@dataclass
class Top5SetRegret(Metric):
    """How far the best token that left the five best stands above the worst that came in, under the reference.

    0 where the sets are the same; infinite where a token came in that is not among the reference's ten best.
    """

    unit: ClassVar[str] = "logits"
    better: ClassVar[Better] = "lower"
    formula: ClassVar[str] = "max z_r over top5 z_r without top5 z_t - min z_r over top5 z_t without top5 z_r"
    least: ClassVar[float] = 0.0

    def compute(self, stats: RowStats) -> np.ndarray:
        ids, logits, chosen = stats.ids_reference, stats.top_reference, stats.ids_candidate[:, :5]
        among = (ids[:, :, None] == chosen[:, None, :]).any(axis=2) & (ids >= 0)
        left = np.where(~among[:, :5] & (ids[:, :5] >= 0), logits[:, :5], -np.inf).max(axis=1)
        known = (chosen[:, :, None] == ids[:, None, :]).any(axis=2) | (chosen < 0)
        came = np.where(among[:, 5:], logits[:, 5:], np.inf).min(axis=1)
        came = np.where(known.all(axis=1), came, -np.inf)
        with np.errstate(invalid="ignore"):
            gap = np.where(np.isneginf(left), 0.0, left - came)
        return np.where(ids[:, 0] >= 0, np.maximum(gap, 0.0), np.nan)
