from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from logitproof.metrics import Better, PromptMetric
from logitproof.rows.distance import first_difference


@dataclass
class TieFlip(PromptMetric):
    """Whether the first divergence is a tie: 1 where the reference's margin there is at most `band`, else 0.

    `band` is the noise of a logit difference, in logits; 0 admits exact ties only. Not measured where
    nothing diverges within the reference's tokens or no margins are known.
    """

    unit: ClassVar[str] = "share"
    better: ClassVar[Better] = "higher"
    formula: ClassVar[str] = "[top1 z_r - top2 z_r <= band] at the first divergence"
    least: ClassVar[float] = 0.0
    greatest: ClassVar[float] = 1.0

    band: float = 0.0

    def compute(self, reference_ids: Sequence[int], candidate_ids: Sequence[int], margins: np.ndarray | None = None) -> float:
        prefix = first_difference(reference_ids, candidate_ids)
        same = prefix == len(reference_ids) == len(candidate_ids)
        if same or margins is None or prefix >= len(margins) or np.isnan(margins[prefix]):
            return float("nan")
        return float(margins[prefix] <= self.band)
