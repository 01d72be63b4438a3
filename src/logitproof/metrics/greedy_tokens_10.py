from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from logitproof.metrics.greedy_tokens import GreedyTokens


@dataclass
class GreedyTokens10(GreedyTokens):
    """Share of tokens: how many of the first 10 free-running tokens come before the continuations part, over 10."""

    formula: ClassVar[str] = "min(first divergence, 10) / 10"
    n: ClassVar[int] = 10  # type: ignore[misc]  # no longer an option
