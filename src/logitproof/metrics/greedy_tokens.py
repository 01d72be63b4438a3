from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from logitproof.metrics.greedy_match import GreedyMatch
from logitproof.rows.distance import first_difference


@dataclass
class GreedyTokens(GreedyMatch):
    """Share of tokens: how many of the first n free-running tokens come before the continuations part, over n.

    Once a prompt parts nothing agrees. Not measured where both ended earlier alike.
    """

    formula: ClassVar[str] = "min(first divergence, n) / n"

    def compute(self, reference_ids: Sequence[int], candidate_ids: Sequence[int], margins: np.ndarray | None = None) -> float:
        whole = super().compute(reference_ids, candidate_ids, margins)
        return whole if whole != 0.0 else first_difference(reference_ids, candidate_ids) / self.n
