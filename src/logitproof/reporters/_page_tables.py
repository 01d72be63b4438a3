"""Tables of a report's page."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from logitproof.documents.section import Column, Line, Row, Table, Text, Tone
from logitproof.documents.wording import number, percent
from logitproof.jobs.unread import defaults_in_words, unread_in_words
from logitproof.report.report import Report
from logitproof.reporters import _comparison_contract
from logitproof.verdict.gates import GateVerdict
from logitproof.verdict.judge import CellVerdict
from logitproof.weights.hub_id import at_commit

GOOD, BAD, UNSURE = (
    ("PASS", "MATCH", "TIE-FLIP"),
    ("FAIL", "WRONG", "SUSPECT", "FIXED"),
    ("ERROR", "SET-UP ERROR", "ENGINE ERROR", "NOT-MEASURED"),
)
SIGNS: dict[Tone, str] = {"good": "✔", "bad": "✘", "unsure": "?", "plain": "~", "quiet": ""}
EVERY_CELL = "Every cell of the matrix was run. One that failed stands under Errors, with its reason."
_WORST = re.compile(r"^worst at prompt (?P<prompt>.*?)(?:, position (?P<at>\d+))?: [^:]*$", re.DOTALL)


def tone_of(status: str) -> Tone:
    """How a status is meant."""
    return "good" if status in GOOD else "bad" if status in BAD else "unsure" if status in UNSURE else "plain"


def cells(report: Report) -> Table:
    """The matrix: a row a cell, by every axis."""
    axes = [Column(title, gathers=True) for title in ("model", "quantization", "candidate", "engine", "mode", "ISA")]
    numbers = ("positions", "mean KL (nats)", "p99 KL", "same top-1 (%)", "greedy match@10 (%)")
    columns = (Column("status"), *axes, *(Column(title, "number") for title in numbers))
    return Table(columns, tuple(_cell(cell) for cell in report.verdict.cells), "Cells", filters=True)


def _cell(verdict: CellVerdict) -> Row:
    cell, kl = verdict.cell, verdict.metrics.get("kl_divergence", {})
    tone = tone_of("PASS" if verdict.as_expected else "FAIL") if verdict.expected else tone_of(verdict.status)
    status = f"{SIGNS[tone]} {verdict.status}" + (f" (control, expected {verdict.expected})" if verdict.expected else "")
    top1, greedy = (verdict.metrics.get(name, {}).get("mean") for name in ("top1", "greedy_match_10"))
    notes = [Line(verdict.reason.partition("\n")[0])] if verdict.reason and not verdict.as_expected else []
    notes += [Line(f"witness: {verdict.witness}", "quiet")] if verdict.witness else []
    return Row(
        (
            status, cell.model, cell.quantization, cell.candidate, cell.candidate_name, cell.mode, cell.isa,
            str(verdict.positions),
            number(kl.get("mean")), number(kl.get("p99")), percent(top1, 2), percent(greedy, 2),
        ),
        tone,
        tuple(notes),
    )  # fmt: skip


def gates(report: Report, shown: Sequence[Mapping[str, Any]]) -> Table | None:
    """Gates, failing ones first; each leads to the prompt and position that it was worst at."""
    order = {"FAIL": 0, "ERROR": 1, "NOT-MEASURED": 2, "PASS": 3}
    chosen = sorted(report.verdict.gates, key=lambda gate: (gate.control, order[gate.status]))
    columns = (
        Column("status"), Column("gate"), Column("cell", "code"), Column("what"), Column("observed", "number"),
        Column("bound", "number"),
        Column("reference against itself", "number"), Column("would catch"),
    )  # fmt: skip
    return Table(columns, tuple(_gate(gate, shown) for gate in chosen), "Gates", filters=len(chosen) > 3) if chosen else None


def _gate(gate: GateVerdict, shown: Sequence[Mapping[str, Any]]) -> Row:
    sign = "≤" if gate.operator == "at_most" else "≥"
    tone: Tone = "quiet" if gate.control else tone_of(gate.status)
    notes = (
        [Line(gate.where or gate.reason, "quiet" if gate.status == "PASS" else "plain")] if gate.where or gate.reason else []
    )
    if gate.status != "PASS":
        notes.append(Line(f"basis: {gate.basis}", "quiet"))
    if gate.status == "FAIL" and not gate.control:
        notes += [Line(f"→ {step}") for step in gate.if_fails]
    own = f"{number(gate.reference_error)} ({gate.reference_run})" if gate.reference_run else "–"
    status = f"{SIGNS[tone]} {gate.status}".strip() + (" (control, not counted)" if gate.control else "")
    what = f"{gate.metric}, {gate.statistic}, {gate.scope}"
    power = str(gate.power) if gate.power else "–"
    row = (status, gate.id, gate.cell, what, number(gate.observed), f"{sign} {number(gate.bound)}", own, power)
    return Row(row, tone, tuple(notes), place_of(gate.where, shown, gate.cell))


def place_of(where: str, cells: Sequence[Mapping[str, Any]], cell: str) -> str:
    """The place on the page of the prompt and position that a gate was worst at, or nothing."""
    number = next((n for n, record in enumerate(cells) if record["id"] == cell), None)
    worst = _WORST.match(where)
    if number is None or worst is None:
        return ""
    prompt = next((n for n, record in enumerate(cells[number]["prompts"]) if record["id"] == worst["prompt"]), None)
    if prompt is None:
        return ""
    return f"at-{number}-{prompt}" + (f"-{worst['at']}" if worst["at"] else "")


def waivers(report: Report) -> Table | None:
    """Known divergences."""
    columns = (
        Column("status"),
        Column("waiver"),
        Column("cell", "code"),
        Column("prompt"),
        Column("issue"),
        Column("until"),
        Column("what"),
    )
    rows = tuple(
        Row(
            (waiver.status, waiver.id, waiver.cell, waiver.prompt_id, waiver.issue, str(waiver.until), waiver.text),
            tone_of(waiver.status),
        )
        for waiver in report.verdict.waivers
    )
    return Table(columns, rows, "Known divergences") if rows else None


def unmeasured(report: Report) -> Table | Text:
    """Cells that were not measured, and why."""
    unread = unread_in_words(report.opened)
    if not report.verdict.unmeasured and not unread:
        defaults = defaults_in_words(report.opened.contract.matrix)
        named = f" Axes of the matrix by default: {defaults}." if defaults else ""
        return Text((Line(f"{EVERY_CELL}{named}"),), "Not measured", detail=True)
    rows = tuple(
        Row((cell.cell, cell.reason, "by leave" if report.is_allowed(cell) else "keeps the verdict from PASS"))
        for cell in report.verdict.unmeasured
    )
    rows += tuple(Row(("no cell", text, "listed under models"), "unsure") for text in unread)
    return Table((Column("cell"), Column("why"), Column("")), rows, "Not measured", filters=len(rows) > 8)


def contract(report: Report) -> Iterator[Table]:
    """What both sides read, setting by setting, with the findings that make a comparison unfair."""
    pairs = _comparison_contract.pairs(report)
    listed = [(pair, finding, "finding") for pair in pairs for finding in pair["findings"]]
    listed += [(pair, finding, f"by leave: {pair['reason']}") for pair in pairs for finding in pair["skipped"]]
    columns = (
        Column("code"),
        Column("pair", "code"),
        Column("setting"),
        Column("reference"),
        Column("candidate"),
        Column("remedy"),
    )
    rows = tuple(
        Row(
            (finding["code"], _comparison_contract.name_of(pair),
             ": ".join(filter(None, (finding["setting"], finding["text"]))),
             finding["reference"], finding["candidate"], finding["remedy"]),
            "bad" if kind == "finding" else "quiet",
            (Line(kind, "quiet"),),
        )
        for pair, finding, kind in listed
    )  # fmt: skip
    if rows:
        yield Table(columns, rows, "What makes the comparison unfair")
    settings = tuple(Row(row) for row in _comparison_contract.merged(report))
    heads = tuple(Column(name) for name in ("weights files", "setting", "reference", "candidate", "likeness", "how"))
    if settings:
        yield Table(heads, settings, "Comparison contract", detail=True, filters=True)


def reference_errors(report: Report) -> Iterator[Table]:
    """The reference against itself, and a witness against it."""
    rows = []
    for entry in report.facts.get("reference_error", []):
        place = (entry["model"], entry["weights"], entry["run"], entry["mode"])
        metrics = entry["metrics"]
        kl, delta = metrics.get("kl_divergence", {}), metrics.get("max_delta_logit", {})
        values = (number(kl.get("mean")), number(kl.get("max")), number(delta.get("max")))
        notes = (Line(f"not measured: {entry['failure']}", "unsure"),) if entry["failure"] else ()
        rows.append(Row((*place, *values), notes=notes))
    columns = (
        *map(Column, ("model", "weights", "run", "mode")),
        *(Column(name, "number") for name in ("mean KL", "largest KL", "largest Δlogit")),
    )
    if rows:
        yield Table(columns, tuple(rows), "The reference's own error", detail=True)


def provenance(report: Report) -> Iterator[Table]:
    """Pins, versions, machines and what engines said of their instructions."""
    facts = report.facts
    pins = [
        Row((f"{name} {label}", at_commit(pin["path"], pin.get("commit", "")), pin["sha256"]))
        for name, files in facts["pins"]["models"].items()
        for label, pin in files.items()
    ]
    pins += [Row((f"suite {name}", "", sha256)) for name, sha256 in facts["pins"]["suites"].items()]
    if pins:
        yield Table((Column("what"), Column("file", "code"), Column("sha256", "code")), tuple(pins), "Pins", detail=True)
    heads = (Column("engine"), Column("kind"), Column("options", "code"), Column("versions"), Column("machine"))
    yield Table(heads, tuple(_engine(name, engine) for name, engine in facts["engines"].items()), "Engines", detail=True)
    heard = [
        Row((cell.cell.id, isa, source, text))
        for cell in report.verdict.cells
        for isa, sources in report.evidence(cell).items()
        for source, texts in sources.items()
        for text in texts
    ]
    if heard:
        columns = (Column("cell"), Column("ISA"), Column("source"), Column("evidence"))
        yield Table(columns, tuple(heard), "ISA evidence", detail=True, filters=True)
    host = Row((json.dumps(facts["host"]), facts["versions"]["logitproof"], facts["made_at"]))
    yield Table((Column("host"), Column("logitproof"), Column("made at")), (host,), "Host", detail=True)


def _engine(name: str, engine: Mapping[str, Any]) -> Row:
    versions = ", ".join(f"{key} {value}" for key, value in engine.get("versions", {}).items() if "sha256" not in key)
    machine = engine.get("machine") or {}
    where = f"{machine.get('architecture', '')} {machine.get('processor', '')}".strip() or "–"
    return Row((name, engine["engine"], json.dumps(engine["options"]), versions, where))
