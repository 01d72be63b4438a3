from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from logitproof.errors import ContractError
from logitproof.metrics import Better, PromptMetric
from logitproof.rows.distance import first_difference


@dataclass
class GreedyMatch(PromptMetric):
    """Whether the first n free-running tokens are the same, 1 or 0; not measured where both ended earlier alike."""

    unit: ClassVar[str] = "share"
    better: ClassVar[Better] = "higher"
    formula: ClassVar[str] = "[the first n new ids are equal]"
    least: ClassVar[float] = 0.0
    greatest: ClassVar[float] = 1.0

    n: int = 10

    def __post_init__(self) -> None:
        if self.n < 1:
            raise ContractError(f"n is {self.n}", remedy="give an n of at least 1")

    def compute(self, reference_ids: Sequence[int], candidate_ids: Sequence[int], margins: np.ndarray | None = None) -> float:
        prefix = first_difference(reference_ids, candidate_ids)
        if prefix >= self.n:
            return 1.0
        # One that stopped while the other went on has diverged; two that ended together were too short.
        return float("nan") if prefix == len(reference_ids) == len(candidate_ids) else 0.0
