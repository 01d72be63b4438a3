"""What the acid test measured: a number beside its tolerance, a row of them, the whole report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Status = Literal["PASS", "FAIL", "ERROR", "NOT-MEASURED"]


@dataclass(frozen=True)
class Measured:
    """One sequence in one mode: the largest distance, in logits, its position, and what is still noise."""

    case: str
    mode: str
    distance: float
    position: int
    at_most: float | None

    @property
    def held(self) -> bool:
        return self.at_most is not None and self.distance <= self.at_most

    @property
    def ratio(self) -> float:
        """Distance over band; 0 where the band does not judge this precision."""
        return self.distance / self.at_most if self.at_most else 0.0


@dataclass(frozen=True)
class Row:
    """One line of the table: a probe, or a check of the engine against itself."""

    check: str
    kind: Literal["probe", "tokenizer", "sampling", "consistency"]
    status: Status
    reason: str = ""
    diagnosis: str = ""
    precision: str = ""
    measured: tuple[Measured, ...] = ()

    @property
    def worst(self) -> Measured | None:
        """The measurement that is furthest out of its band."""
        judged = [measurement for measurement in self.measured if measurement.at_most is not None]
        return max(judged, key=lambda measurement: measurement.ratio, default=None)


@dataclass(frozen=True)
class AcidReport:
    """Everything that one acid run found."""

    engine: str
    options: dict[str, Any]
    versions: dict[str, str]
    weights: str
    rows: tuple[Row, ...]
    seconds: float

    @property
    def exit_code(self) -> int:
        """1 where anything failed, 3 where the engine did or nothing was measured, else 0."""
        statuses = {row.status for row in self.rows}
        if "FAIL" in statuses:
            return 1
        return 0 if "PASS" in statuses and "ERROR" not in statuses else 3
