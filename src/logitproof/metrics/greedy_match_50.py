from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from logitproof.metrics.greedy_match import GreedyMatch


@dataclass
class GreedyMatch50(GreedyMatch):
    """Whether the first 50 free-running tokens are the same, 1 or 0; not measured where both ended earlier alike."""

    formula: ClassVar[str] = "[the first 50 new ids are equal]"
    n: ClassVar[int] = 50  # type: ignore[misc]  # no longer an option
