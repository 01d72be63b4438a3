from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from logitproof.metrics import Better, RoutingMetric

if TYPE_CHECKING:
    from logitproof.rows.routing import Routing


@dataclass
class ExpertSet(RoutingMetric):
    """Share of the layers with a router that chose the reference's set of experts; their order does not count."""

    unit: ClassVar[str] = "share of layers"
    better: ClassVar[Better] = "one"
    formula: ClassVar[str] = "mean over the layers of [{e_r} = {e_t}]"
    least: ClassVar[float] = 0.0
    greatest: ClassVar[float] = 1.0

    def compute(self, reference: Routing, candidate: Routing) -> np.ndarray:
        from logitproof.rows.routing import same_sets

        return np.asarray(same_sets(reference, candidate).mean(-1))
