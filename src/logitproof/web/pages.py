"""The pages as documents, from what the history holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from logitproof.documents.document import Document
from logitproof.documents.section import Column, Line, Row, Section, Table, Text, Verdict
from logitproof.documents.wording import number, number_of
from logitproof.runs.history_text import TONES, charts, compared
from logitproof.runs.recorded import Recorded

SIGNS = {"PASS": "✔", "FAIL": "✘", "ERROR": "?"}


def overview(runs: Sequence[Recorded]) -> Document:
    """Every contract's latest run, and all runs."""
    latest: dict[str, Recorded] = {}
    for run in runs:
        latest.setdefault(run.contract, run)
    if not runs:
        return Document("Runs", Verdict("NOTHING", "no run is recorded yet", "unsure"), (), "logitproof check CONTRACT")
    failing = [run for run in latest.values() if run.status != "PASS"]
    status = failing[0].status if failing else "PASS"
    reason = f"{len(latest) - len(failing)} of {len(latest)} contracts pass in their latest run"
    return Document("Runs", Verdict(status, reason, TONES[status]), (_contracts(latest), _runs(runs)))


def going_on(live: Sequence[Mapping[str, Any]]) -> list[str]:
    """Runs that go on, a line each."""
    return [f"{run['contract']}: {run['done']} of {run['total']} jobs, last {run['what']}" for run in live]


def contract(runs: Sequence[Recorded]) -> Document:
    """One contract: its runs, and every gate over time."""
    last = runs[0]
    sections: list[Section] = [_gates(last), *charts(runs), _runs(runs)]
    reason = f"{last.made_at}{f': {last.reason.splitlines()[0]}' if last.reason else ''}; {number_of(len(runs), 'run')}"
    return Document(last.contract, Verdict(last.status, reason, TONES[last.status]), tuple(sections))


def run_page(run: Recorded) -> Document:
    """What the history holds of a run whose folder is gone."""
    cells = Table(
        (Column("status"), Column("cell"), Column("positions", "number"), Column("mean KL", "number"), Column("why")),
        tuple(
            Row((cell["status"], name, str(cell["positions"]), number(_kl(cell)), cell["reason"]))
            for name, cell in run.cells.items()
        ),
        "Cells",
        filters=True,
    )
    gone = Line(f"The folder holds this run no longer: {run.folder}", "quiet")
    text = Text((gone, Line(f"machine: {run.machine}"), Line(f"commit: {run.commit}")))
    verdict = Verdict(run.status, run.reason.partition("\n")[0], TONES[run.status])
    return Document(f"{run.contract}, {run.made_at}", verdict, (text, cells, _gates(run)))


def _kl(cell: Mapping[str, Any]) -> float | None:
    mean: float | None = cell["metrics"].get("kl_divergence", {}).get("mean")
    return mean


def beside(before: Recorded, after: Recorded) -> Document:
    """Two runs side by side."""
    return compared(before, after)


def link(run: Recorded) -> str:
    """The address of a run."""
    return f"/runs/{quote(run.run_id, safe='')}"


def _contracts(latest: Mapping[str, Recorded]) -> Table:
    columns = (Column("status"), Column("contract"), Column("made at"), Column("why"))
    rows = tuple(
        Row(
            (f"{SIGNS[run.status]} {run.status}", name, run.made_at, run.reason.partition("\n")[0]),
            TONES[run.status],
            target=f"/contracts/{quote(name, safe='')}",
        )
        for name, run in latest.items()
    )
    return Table(columns, rows, "Contracts", filters=True)


def _runs(runs: Sequence[Recorded]) -> Table:
    titles = ("status", "contract", "made at", "machine")
    columns = (*map(Column, titles), Column("commit", "code"), Column("run", "code"))
    rows = tuple(
        Row(
            (f"{SIGNS[run.status]} {run.status}", run.contract, run.made_at, run.machine, run.commit[:13], run.run_id),
            TONES[run.status],
            target=link(run),
        )
        for run in runs
    )
    return Table(columns, rows, "Runs", filters=True)


def _gates(run: Recorded) -> Table:
    columns = (Column("status"), Column("gate"), Column("observed", "number"), Column("bound", "number"))
    rows = tuple(
        Row((gate["status"], name, number(gate["observed"]), number(gate["bound"])), TONES.get(gate["status"], "unsure"))
        for name, gate in run.gates.items()
    )
    return Table(columns, rows, "Gates of the latest run", filters=True)
