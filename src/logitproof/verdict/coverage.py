"""How much of what a cell planned was measured and judged: a verdict over the survivors is none."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from logitproof.bands.rule import Statuses


@dataclass(frozen=True)
class Coverage:
    """Positions of a cell."""

    planned: int
    """rows that the reference gives of the cell's prompts"""
    measured: int
    """of these: rows of both sides that every number a band looks at could be taken of"""
    judged: int
    """of these: by a band, and not waived"""

    @property
    def is_whole(self) -> bool:
        """Whether nothing that was planned is missing."""
        return self.measured >= self.planned

    def __str__(self) -> str:
        return f"{self.measured} of {self.planned} planned positions were measured"


def coverage_of(planned: int, prompts: Iterable[Statuses]) -> Coverage:
    """The coverage of a cell that planned so many positions, by the statuses of its prompts."""
    kept = [(prompt, [status for status in prompt.positions if status != "NOT-MEASURED"]) for prompt in prompts]
    judged = sum(len(statuses) for prompt, statuses in kept if not prompt.is_waived)
    return Coverage(planned, sum(len(statuses) for _, statuses in kept), judged)
