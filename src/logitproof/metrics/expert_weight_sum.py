from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from logitproof.metrics import Better, RoutingMetric

if TYPE_CHECKING:
    from logitproof.rows.routing import Routing


@dataclass
class ExpertWeightSum(RoutingMetric):
    """How far the candidate's weights of the chosen experts are from a sum of 1, in its worst layer.

    A model whose config does not normalize or scales them has another sum by design; lint refuses the gate there.
    """

    unit: ClassVar[str] = "weight"
    better: ClassVar[Better] = "lower"
    formula: ClassVar[str] = "max over the layers of |sum w_t - 1|"
    least: ClassVar[float] = 0.0

    def compute(self, reference: Routing, candidate: Routing) -> np.ndarray:
        return np.asarray(np.abs(candidate.sums - 1).max(-1))
