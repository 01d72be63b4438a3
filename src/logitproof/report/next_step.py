"""The one command that makes sense after a verdict."""

from __future__ import annotations

import shlex
from pathlib import Path

from logitproof.report.report import Report


def next_command(report: Report, folder: Path, contract: Path | None = None) -> str:
    """What to type next, of a run in `folder`; `contract` is how its reader names it."""
    if report.verdict.status == "PASS":
        return f"logitproof judge {shlex.quote(str(folder))}   # after changing a bound: no engine is run"
    unexpected = [cell for cell in report.verdict.cells if not cell.as_expected]
    if any(cell.status == "WRONG" and cell.cell.mode in ("prefill", "decode") for cell in unexpected):
        run = shlex.quote(str(folder))
        return f"logitproof diagnose {run}   # which known bug; `logitproof localize {run}`: which operation"
    bad = next(iter(unexpected), None)
    only = f" --only {shlex.quote(bad.cell.id)}" if bad else ""
    named = shlex.quote(str(contract or report.opened.path))
    return f"logitproof check {named}{only} --out {shlex.quote(str(folder))}"
