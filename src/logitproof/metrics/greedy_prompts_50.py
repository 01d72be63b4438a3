from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from logitproof.metrics.greedy_match_50 import GreedyMatch50


@dataclass
class GreedyPrompts50(GreedyMatch50):
    """Share of prompts: whether the first 50 free-running tokens of a prompt are all the same, 1 or 0 (`greedy_match_50`)."""

    formula: ClassVar[str] = "[the first 50 new ids are equal], a prompt"
