"""The rule of a cell: values of a position make its status, and statuses make a cell that its band lets pass or not.

The verdict asks it of what an engine gave, detection power of what a known bug would give.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from logitproof.bands.band import Band, PositionStatus

JUDGED = ("rms_delta_logit", "top1", "regret")
"""What a band looks at."""


@dataclass(frozen=True)
class Statuses:
    """The positions of one prompt, and whether a waiver stands for it."""

    positions: tuple[PositionStatus, ...]
    has_waiver: bool = False

    @property
    def is_waived(self) -> bool:
        """Whether the rule passes it over: a waiver is for what was measured, never for what was not."""
        return self.has_waiver and bool(self.positions) and "NOT-MEASURED" not in self.positions


@dataclass(frozen=True)
class Excess:
    """More positions of a kind than a band allows: `count` of `judged`, where the share `allowed` may be."""

    kind: str
    count: int
    judged: int
    allowed: str

    def __str__(self) -> str:
        return f"{self.count} of {self.judged} positions are {self.kind}, {self.allowed}"


def statuses_of(bands: Sequence[Band], columns: Mapping[str, np.ndarray]) -> tuple[PositionStatus, ...]:
    """The status of T positions by their bands [T] and the metrics `JUDGED`, [T] each: logits, 0 or 1, logits."""
    values = zip(bands, *(columns[name] for name in JUDGED), strict=True)
    return tuple(band.status(float(rms), bool(top1 == 1.0), float(regret)) for band, rms, top1, regret in values)


def counted(prompts: Iterable[Statuses]) -> Counter[PositionStatus]:
    """How many positions have each status, over the prompts that are not waived."""
    return Counter(status for prompt in prompts if not prompt.is_waived for status in prompt.positions)


def too_many(prompts: Iterable[Statuses], band: Band) -> Excess | None:
    """What a cell has too much of, by the shares of its band; None where it keeps them.

    Positions that were not measured count in the whole, so that a share is never one of the survivors.
    """
    counts = counted(prompts)
    judged = max(sum(counts.values()), 1)
    wrong, outside = counts["WRONG"], counts["WRONG"] + counts["DRIFT"]
    if wrong / judged > band.allow:
        return Excess("WRONG", wrong, judged, f"{band.allow:.2%} are allowed")
    if outside / judged > band.beyond:
        return Excess("outside the band", outside, judged, f"{band.beyond:.2%} are expected at most")
    return None
