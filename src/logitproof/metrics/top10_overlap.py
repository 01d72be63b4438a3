from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from logitproof.metrics.top_k_overlap import TopKOverlap


@dataclass
class Top10Overlap(TopKOverlap):
    """Share of the reference's ten best tokens that are among the candidate's ten best, in any order."""

    formula: ClassVar[str] = "|top10 z_r ∩ top10 z_t| / 10"
    k: ClassVar[int] = 10  # type: ignore[misc]  # no longer an option
