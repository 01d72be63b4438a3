"""A run's place among other runs: whose folder it is, the last one that passed, and the history."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from logitproof.contract.contract import OpenContract
from logitproof.errors import ContractError, EnvironmentFailed
from logitproof.files.atomic import write_atomically
from logitproof.files.untrusted import read_object
from logitproof.jobs.progress import Progress
from logitproof.report.report import Report

GREEN = "last-green"
"""Folder in a run folder with what people open of the last run there that passed."""
SHOWN = ("verdict.json", "report.md", "report.html", "positions.parquet")
EVERY = 1.0
"""Seconds between two notes of how far a run has come."""
SLACK = timedelta(minutes=10)
"""By so much the clocks of two machines may differ."""
MINUTE = "%Y-%m-%d %H:%M UTC"


def refuse_other_contract(folder: Path, opened: OpenContract) -> None:
    """Raise ContractError where a folder holds the run of another contract, which is still there."""
    path = folder / "run.json"
    if not path.is_file():
        return
    try:
        record, verdict = read_object(path), read_object(folder / "verdict.json")
        before, named = Path(str(record["contract"])), str(verdict["contract"])
    except (ContractError, KeyError):
        return
    refuse_clock(str(verdict.get("made_at", "")), folder)
    if named == opened.contract.contract and (before.resolve() == opened.path.resolve() or not before.is_file()):
        return
    raise ContractError(
        f"holds a run of the contract {named!r} ({before}), which another would take the place of",
        where=str(folder),
        remedy="name another folder with --out, or remove this one",
    )


def refuse_clock(made_at: str, where: Path) -> None:
    """Raise EnvironmentFailed where this machine's clock says a time before that of what lies there already.

    Waivers end by the day, and runs are ordered by their times: by a clock that was set back neither would hold.
    """
    try:
        before = datetime.fromisoformat(made_at)
    except ValueError:
        return
    now = datetime.now(UTC)
    if before.tzinfo is not None and before > now + SLACK:
        text = f"the clock of this machine says {now:{MINUTE}}, and the run there was made at {before.astimezone(UTC):{MINUTE}}"
        raise EnvironmentFailed(text, where=str(where), remedy="set the clock, or give another --out if that run's was wrong")


def keep_green(report: Report, folder: Path) -> None:
    """Keep a copy of what people open of a run that passed, until the next one passes."""
    if report.verdict.status != "PASS":
        return
    for name in SHOWN:
        if (folder / name).is_file():
            write_atomically(folder / GREEN / name, (folder / name).read_bytes())


def record_run(report: Report, folder: Path) -> str:
    """Write a run into the history; why it is not there, in one line, or nothing."""
    from logitproof.runs.ledger import commit_of, quietly
    from logitproof.runs.recorded import recorded

    verdict = read_object(folder / "verdict.json")
    run = recorded(verdict, str(folder.resolve()), commit_of(report.opened.path.resolve().parent))
    return quietly(lambda ledger: ledger.record(run))


def forget_progress(run_id: str) -> None:
    """The run goes on no longer, however it ended."""
    from logitproof.runs.ledger import quietly

    quietly(lambda ledger: ledger.end(run_id))


def announced(on_progress: Callable[[Progress], None], run_id: str, contract: str) -> Callable[[Progress], None]:
    """The callback, and once a second a note in the history of how far the run has come."""
    from logitproof.runs.ledger import quietly

    noted_at = 0.0

    def tell(progress: Progress) -> None:
        nonlocal noted_at
        on_progress(progress)
        if (now := time.monotonic()) - noted_at >= EVERY:
            noted_at = now
            what = f"{progress.result.engine} {progress.job.model.name} {progress.job.prompt.id}"
            quietly(lambda ledger: ledger.go_on(run_id, contract, progress.done, progress.total, what))

    return tell
