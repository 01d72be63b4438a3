from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from logitproof.metrics.greedy_match import GreedyMatch


@dataclass
class GreedyMatch10(GreedyMatch):
    """Whether the first 10 free-running tokens are the same, 1 or 0; not measured where both ended earlier alike."""

    formula: ClassVar[str] = "[the first 10 new ids are equal]"
    n: ClassVar[int] = 10  # type: ignore[misc]  # no longer an option
