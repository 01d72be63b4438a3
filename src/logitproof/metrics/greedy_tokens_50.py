from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from logitproof.metrics.greedy_tokens import GreedyTokens


@dataclass
class GreedyTokens50(GreedyTokens):
    """Share of tokens: how many of the first 50 free-running tokens come before the continuations part, over 50."""

    formula: ClassVar[str] = "min(first divergence, 50) / 50"
    n: ClassVar[int] = 50  # type: ignore[misc]  # no longer an option
