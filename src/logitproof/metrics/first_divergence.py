from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from logitproof.metrics import Better, PromptMetric
from logitproof.rows.distance import first_difference


@dataclass
class FirstDivergence(PromptMetric):
    """Index of the first new token that differs, from 0: the number of tokens that agree.

    Two that never diverge give the number compared. Not measured where nothing was generated.
    """

    unit: ClassVar[str] = "tokens"
    better: ClassVar[Better] = "higher"
    formula: ClassVar[str] = "length of the common prefix of the new ids"
    least: ClassVar[float] = 0.0

    def compute(self, reference_ids: Sequence[int], candidate_ids: Sequence[int], margins: np.ndarray | None = None) -> float:
        if not reference_ids and not candidate_ids:
            return float("nan")
        return float(first_difference(reference_ids, candidate_ids))
