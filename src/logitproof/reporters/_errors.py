"""The failures of a report, each told once."""

from __future__ import annotations

from logitproof.report.report import Report
from logitproof.traces.trace import Failure
from logitproof.verdict.judge import CellVerdict


def distinct_failures(report: Report) -> dict[tuple[str, str, str], tuple[CellVerdict, Failure]]:
    """Every failure once, with the first cell that it stands in."""
    failures: dict[tuple[str, str, str], tuple[CellVerdict, Failure]] = {}
    for cell in report.verdict.cells:
        for failure in cell.failures:
            failures.setdefault((failure.fault, failure.text, failure.where), (cell, failure))
    return failures
