from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from logitproof.metrics.greedy_match_10 import GreedyMatch10


@dataclass
class GreedyPrompts10(GreedyMatch10):
    """Share of prompts: whether the first 10 free-running tokens of a prompt are all the same, 1 or 0 (`greedy_match_10`)."""

    formula: ClassVar[str] = "[the first 10 new ids are equal], a prompt"
