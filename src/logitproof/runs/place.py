"""A run's place among other runs: whose folder it is, the last one that passed, and the history."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from logitproof.contract.contract import CONTRACT_NAME
from logitproof.contract.opened import OpenContract, read_contract
from logitproof.errors import ContractError, EnvironmentFailed
from logitproof.files.atomic import environment_errors, write_atomically
from logitproof.files.nearest import meant
from logitproof.files.untrusted import read_object
from logitproof.files.yaml_text import parse_yaml, yaml_text
from logitproof.jobs.progress import Progress
from logitproof.report.report import Report

RUNS = Path("runs")
"""Where a run folder is, unless --out says."""
GREEN = "last-green"
"""Folder in a run folder with what people open of the last run there that passed."""
SHOWN = ("verdict.json", "report.md", "report.html", "positions.parquet")
PREVIOUS = "previous"
"""Folder in a run folder with the results of the run before, while none of today has taken their place."""
PUBLISHED = (
    "verdict.json", "report.md", "report.html", "report-*.svg", "junit.xml", "results.sarif", "step_summary.md",
    "annotations.txt", "console.txt", "badge.svg", "failures.jsonl", "positions.parquet", "diagnosis.json",
    "localization.json", "localization.html", "quality/*",
)  # fmt: skip
"""What a run folder shows to people and to CI: none of it may outlive the run that it is of."""
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
    places = [place / "verdict.json" for place in (folder, folder / PREVIOUS)]
    shown = next((file for file in places if file.is_file()), places[0])
    try:
        record, verdict = read_object(path), read_object(shown)
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


def withdraw(folder: Path, names: Sequence[str] = PUBLISHED) -> None:
    """Move results of a run before into `previous/`, so that none of them stands there as if it were today's."""
    files = [file for name in names for file in sorted(folder.glob(name)) if file.is_file()]
    with environment_errors(folder):
        for file in files:
            target = folder / PREVIOUS / file.relative_to(folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            file.replace(target)


def folder_of(contract: Path) -> Path | None:
    """The folder of a contract's runs, though it may not be readable: by the name in it, or by the run that names the file."""
    with contextlib.suppress(ContractError):
        data = parse_yaml(yaml_text(contract), contract)[0]
        name = data.get("contract") if isinstance(data, dict) else None
        if isinstance(name, str) and re.fullmatch(CONTRACT_NAME, name):
            return RUNS / name
    for record in sorted(RUNS.glob("*/run.json")):
        if _contract_of(record) == contract.resolve():
            return record.parent
    return None


def run_of(what: Path) -> Path:
    """The folder of a finished run: the folder itself, or that of a contract, which stands for its run here."""
    if what.is_dir():
        return what
    if not what.exists():
        remedy = "give the folder that `logitproof check` wrote"
        raise ContractError(f"no such file or folder{meant(what)}", where=str(what), remedy=remedy)
    folder = RUNS / read_contract(what)[0].contract
    if not (folder / "run.json").is_file():
        text = f"has not been run: there is no {folder}/run.json"
        raise ContractError(text, where=str(what), remedy="run `logitproof check` first, or give the folder of its --out")
    return folder


def is_its_own(folder: Path, contract: Path) -> bool:
    """Whether no run of another contract lies in a folder."""
    record = folder / "run.json"
    return not record.is_file() or _contract_of(record) in (None, contract.resolve())


def contract_of(folder: Path) -> Path:
    """The contract that a run folder is of; its record, where that does not say."""
    return _contract_of(folder / "run.json") or folder / "run.json"


def _contract_of(record: Path) -> Path | None:
    try:
        return Path(str(read_object(record)["contract"])).resolve()
    except (ContractError, KeyError):
        return None


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
