from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from logitproof.metrics.top_k_overlap import TopKOverlap


@dataclass
class Top5Overlap(TopKOverlap):
    """Share of the reference's five best tokens that are among the candidate's five best, in any order."""

    formula: ClassVar[str] = "|top5 z_r ∩ top5 z_t| / 5"
    k: ClassVar[int] = 5  # type: ignore[misc]  # no longer an option
