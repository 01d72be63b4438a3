"""A run folder: the store of its traces, what was planned, and the rendered report.

RUN/store/…          traces by content hash, reused by the next run
RUN/run.json         what was planned and what failed, for `judge`
RUN/kept/…           comparisons of prompts whose rows were not kept
RUN/begun.json       the id of a run that has not ended, for the one that continues it
RUN/in-use.json      which process works in the folder, and since when
RUN/verdict.json …   one file a reporter
RUN/evidence.dsse.json   a signed statement about it, where `attest` made one
RUN/answers/…        what localize and diagnose found out about this run
RUN/last-green/…     what people open of the last run that passed
RUN/previous/…       results of the run before, where the last one came to no verdict
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from logitproof import catalog
from logitproof.contract.inert import refuse_inert
from logitproof.contract.opened import OpenContract, open_contract
from logitproof.contract.suite import Prompt
from logitproof.documents.document import Document
from logitproof.documents.stored import Kept, keep
from logitproof.errors import LogitproofError
from logitproof.files.atomic import write_atomically
from logitproof.files.lock import in_use
from logitproof.jobs.cell import Cell, Pair, Unmeasured, keys_of
from logitproof.jobs.plan import Plan
from logitproof.jobs.pool import Executor
from logitproof.jobs.progress import Progress
from logitproof.preflight import Preflight
from logitproof.report.next_step import next_command
from logitproof.report.report import Report
from logitproof.report.unfinished import Unfinished
from logitproof.runs import identity
from logitproof.runs.check import check, conclude
from logitproof.runs.compact import write_compact
from logitproof.runs.identity import new_run_id
from logitproof.runs.kept import FOLDER, Keep, bare, dropped, read_kept, write_kept
from logitproof.runs.measured import Ran, measured_by, refuse_another
from logitproof.runs.place import (
    PREVIOUS,
    announced,
    forget_progress,
    is_its_own,
    keep_green,
    record_run,
    refuse_clock,
    refuse_other_contract,
    withdraw,
)
from logitproof.runs.record import read_run
from logitproof.traces.aside import Aside
from logitproof.traces.store import Store, TraceStore
from logitproof.traces.trace import Failure, Trace
from logitproof.traces.url_store import UrlStore
from logitproof.verdict.case import Case

FORMAT = 2


@dataclass(frozen=True)
class JudgedRun:
    """A recorded run that was judged again, what its verdict was reached from, and where its traces lie."""

    report: Report
    cases: Sequence[Case]
    unmeasured: Sequence[Unmeasured]
    store: TraceStore
    gone: Mapping[str, Any] = field(default_factory=dict)
    """records of the traces whose rows were not kept"""
    compact: Mapping[str, str] = field(default_factory=dict)
    """sha256 of the file of rows in few bits, of those of which there is one"""


class Workspace:
    """Everything that one contract's runs leave on disk."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.note = ""
        """what a person should know of the last run beside its verdict"""

    def check(
        self,
        opened: OpenContract,
        *,
        only: str = "*",
        fresh: bool = False,
        parallel: int = 1,
        keep: Keep = "all",
        executor: Executor | None = None,
        store_url: str = "",
        on_progress: Callable[[Progress], None] = lambda progress: None,
        on_preflight: Callable[[Preflight], None] = lambda preflight: None,
    ) -> Report:
        """Run the contract, keep what it needs to be judged again, and render every reporter's files.

        Of rows stay what `keep` says; what was measured of the others is kept in their place. Traces are read from `store_url`
        and written there too, where one is given; the run folder has its own of all that it used.

        Raises ContractError where the folder holds the run of another contract, or another run works in it.
        """
        self.note = ""
        refuse_other_contract(self.folder, opened)
        with in_use(self.folder, f"check of {opened.contract.contract}"):
            withdraw(self.folder)
            own = Store(self.folder / "store")
            store: TraceStore = UrlStore(store_url, own) if store_url else own
            store.sweep()
            if fresh:
                store.clear()
            run_id = identity.begin(self.folder, opened, only, fresh=fresh)
            try:
                report = check(
                    opened,
                    store,
                    only=only,
                    parallel=parallel,
                    run_id=run_id,
                    executor=executor,
                    on_progress=announced(on_progress, run_id, opened.contract.contract),
                    on_preflight=on_preflight,
                )
            finally:
                forget_progress(run_id)
            gone = dropped(report, keep)
            write_kept(self.folder, report.looked, gone)
            compact = _compacted(report, gone, self.folder) if keep == "compact" else {}
            left = {"dropped": gone, "compact": compact}
            write_atomically(self.folder / "run.json", json.dumps(_recorded(report) | left, indent=1))
            for key in gone:
                own.forget(key)
            identity.end(self.folder)
            self._finish(report)
            self._say_what_is_gone(gone, compact)
            shutil.rmtree(self.folder / PREVIOUS, ignore_errors=True)
            return report

    def tell_unfinished(self, run: Unfinished) -> bool:
        """Write what stopped a run where its verdict would stand; False where the folder is of another contract or in use."""
        if not is_its_own(self.folder, run.path):
            return False
        try:
            with in_use(self.folder, f"check of {run.contract}"):
                withdraw(self.folder)
                for name, entry in catalog.entries("reporters").items():
                    if entry.base == "Reporter":
                        catalog.load("reporters", name)().unfinished(run, self.folder)
        except LogitproofError:
            return False
        return True

    def judge_again(self, contract: Path | None = None) -> Report:
        """Judge the recorded traces by the run's contract as it stands now, or by another."""
        self.note = ""
        judged = self.judged(contract)
        self._finish(judged.report)
        self._say_what_is_gone(judged.gone, judged.compact)
        return judged.report

    def judged(self, contract: Path | None = None) -> JudgedRun:
        """What `judge_again` comes to, and nothing is written but the id of a run that had none."""
        record = self._record()
        opened = open_contract(contract or Path(record["contract"]))
        refuse_inert(opened)
        store = Store(self.folder / "store")
        cells = tuple(_cell(cell) for cell in record["cells"])
        unmeasured = tuple(Unmeasured(**cell) for cell in record["unmeasured"])
        pinned = record["facts"]["pins"]["models"].items()
        weights = {(name, label): file["sha256"] for name, files in pinned for label, file in files.items()}
        planned = frozenset({cell.id for cell in cells} | {cell.cell for cell in unmeasured})
        refuse_clock(record["facts"]["made_at"], self.folder)
        refuse_another(opened, Ran(planned, record.get("measured_by", {}), record["facts"]["pins"]["suites"], weights))
        yardsticks = tuple(_cell(cell) for cell in record["yardsticks"])
        keys = {key for cell in (*cells, *yardsticks) for pair in cell.pairs for key in keys_of(pair)}
        gone = record.get("dropped", {})
        kept = read_kept(self.folder, (*cells, *yardsticks), gone)
        results = Aside()
        for key in keys:  # one after the other: all of them together have more rows than may be mapped
            results[key] = self._result(key, record, store)
        preflight = Preflight.read(record["facts"]["preflight"])
        concluded = conclude(opened, Plan((), cells, unmeasured, yardsticks=yardsticks), results, preflight, weights, kept)
        report = concluded.report(opened, results, record["words"], record["facts"])
        return JudgedRun(report, concluded.cases, unmeasured, store, gone, record.get("compact", {}))

    def _say_what_is_gone(self, gone: Mapping[str, Any], compact: Mapping[str, str]) -> None:
        if gone and compact:
            text = f"rows of {len(compact)} traces are compact: KL divergence is theirs to 1e-6 nats, and their best tokens; "
            text += "for single logits (diagnose, quality, freeze) run `logitproof check --keep all` again"
            self.note = f"{self.note}\n{text}" if self.note else text
        elif gone:
            text = f"rows of {len(gone)} traces were not kept: bounds, waivers and gates can be judged again; to localize, "
            text += "diagnose, freeze or measure another metric of these prompts, run `logitproof check` again"
            self.note = f"{self.note}\n{text}" if self.note else text

    def _finish(self, report: Report) -> None:
        """Lay the run out, keep it where it passed, and write it into the history."""
        self.render(report)
        keep_green(report, self.folder)
        self.note = "; ".join(filter(None, (self.note, record_run(report, self.folder))))

    def render(self, report: Report) -> None:
        """Let every reporter that writes files write its own."""
        for name, entry in catalog.entries("reporters").items():
            if entry.base == "Reporter":
                catalog.load("reporters", name)().render(report, self.folder)

    def keep(self, report: Report, kind: str, document: Document) -> None:
        """Keep what was answered about this run, and lay the run out again with it."""
        keep(Kept(kind, report.facts["run_id"], document), self.folder)
        self.render(report)

    def next_command(self, report: Report, contract: Path) -> str:
        """One command that makes sense after this verdict."""
        return next_command(report, self.folder, contract)

    def _record(self) -> dict[str, Any]:
        path = self.folder / "run.json"
        record = read_run(path, FORMAT)
        if (self.folder / "begun.json").is_file():
            self.note = f"the last check here did not end; this is the run of {record['facts'].get('made_at', 'before')}"
        if "run_id" not in record["facts"]:
            # written before runs had ids: it gets one now, and keeps it
            record["facts"]["run_id"] = new_run_id()
            write_atomically(path, json.dumps(record, indent=1))
        return record

    def _result(self, key: str, record: Mapping[str, Any], store: TraceStore) -> Trace | Failure:
        if key in record["failures"]:
            return Failure(**record["failures"][key])
        if key in record.get("dropped", {}):
            return bare(record["dropped"][key], self.folder / "run.json", record.get("compact", {}).get(key))
        trace = store.read(key)
        if trace is None:
            text = f"the trace {key[:12]} is gone from the store, or damaged"
            return Failure(key, "", "environment", text, remedy="run `logitproof check` again")
        return trace


def _compacted(report: Report, gone: Mapping[str, Any], folder: Path) -> dict[str, str]:
    """Write the rows of these traces in few bits, beside the comparisons that were made of them."""
    traces = {key: trace for key in gone if isinstance(trace := report.results[key], Trace)}
    return write_compact(folder / FOLDER, traces, [row for rows in report.looked.values() for row in rows])


def _recorded(report: Report) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "contract": str(report.opened.path),
        "measured_by": measured_by(report.opened),
        "cells": [_cell_json(cell) for cell in report.compared],
        "yardsticks": [_cell_json(cell) for cell in report.yardsticks],
        "unmeasured": [asdict(cell) for cell in report.verdict.unmeasured],
        "failures": {key: asdict(result) for key, result in report.results.items() if isinstance(result, Failure)},
        "words": report.words,
        "facts": dict(report.facts),
    }


def _cell_json(cell: Cell) -> dict[str, Any]:
    names = {"reference_name": cell.reference_name, "candidate_name": cell.candidate_name}
    return {**cell.axes, **names, "pairs": [_pair_json(pair) for pair in cell.pairs]}


def _pair_json(pair: Pair) -> dict[str, Any]:
    return {**{name: getattr(pair, name) for name in pair.__dataclass_fields__}, "prompt": pair.prompt.model_dump()}


def _cell(record: dict[str, Any]) -> Cell:
    pairs = tuple(Pair(**{**pair, "prompt": Prompt.model_validate(pair["prompt"])}) for pair in record["pairs"])
    return Cell(**{**record, "pairs": pairs})
