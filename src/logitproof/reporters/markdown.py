"""report.md: summary first, then what to look at."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from logitproof.documents.markdown import picture, text
from logitproof.documents.pages import svg
from logitproof.documents.section import Chart, Grid
from logitproof.documents.stored import Kept, kept_answers
from logitproof.documents.wording import code, encodable, next_line, number, number_of, paragraph, percent, visible, words
from logitproof.files.atomic import write_atomically
from logitproof.jobs.unread import defaults_in_words, unread_in_words
from logitproof.report.report import Report
from logitproof.report.unfinished import Unfinished
from logitproof.reporters import Reporter
from logitproof.reporters import _comparison_contract as contract
from logitproof.reporters._charts import pictures
from logitproof.reporters._decisive import decisive, following
from logitproof.reporters._errors import distinct_failures
from logitproof.reporters._page_tables import EVERY_CELL
from logitproof.reporters._table_lines import table_lines
from logitproof.reporters._worst_prompts import worst_prompts
from logitproof.verdict.gates import GateVerdict
from logitproof.verdict.judge import CellVerdict


class Markdown(Reporter):
    """report.md: the summary, the gates, what was not measured, the worst prompts, pins and versions."""

    def render(self, report: Report, folder: Path) -> Path:
        path = folder / "report.md"
        answers = kept_answers(folder, report.facts.get("run_id", ""))
        sections: list[Callable[[Report], Iterator[str]]] = [
            functools.partial(_head, answers=answers, command=following(report, folder, answers)),
            functools.partial(_pictures, files=_drawn(report, folder)),
            functools.partial(_answers, answers=answers),
            _cells,
            _gates,
            _comparison_contract,
            _reference_errors,
            _falsified,
            _waivers,
            _unmeasured,
            _errors,
            worst_prompts,
            _provenance,
        ]
        write_atomically(path, encodable("\n".join(line for section in sections for line in section(report))) + "\n")
        return path

    def unfinished(self, run: Unfinished, folder: Path) -> None:
        """Why there is no verdict."""
        write_atomically(folder / "report.md", encodable(text(run.document())) + "\n")


def _head(report: Report, answers: Sequence[Kept], command: str) -> Iterator[str]:
    """The verdict with what decided it in the first line, and what to do next."""
    verdict, stated = report.verdict, report.opened.contract
    measured = sum(cell.positions for cell in verdict.cells)
    held = sum(gate.status == "PASS" for gate in verdict.gates if not gate.control)
    counted = sum(not gate.control for gate in verdict.gates)
    yield f"# {verdict.status}: {words(stated.contract)} {words(stated.version)}: {words(decisive(report, answers))}"
    yield ""
    yield next_line(command)
    yield ""
    if stated.about:
        yield paragraph(stated.about)
        yield ""
    looked = f"{number_of(measured, 'position')} in {number_of(len(verdict.cells), 'cell')}"
    yield f"{held} of {counted} gates hold; {looked}. Exit code {verdict.exit_code}."
    if verdict.reason:
        yield ""
        yield f"It is {verdict.status}: {words(verdict.reason)}"
    yield ""


def _drawn(report: Report, folder: Path) -> list[tuple[str, Grid | Chart]]:
    """The pictures as files beside the report; those of an earlier one leave."""
    for old in folder.glob("report-*.svg"):
        old.unlink()
    shown = [(f"report-{number}.svg", picture) for number, picture in enumerate(pictures(report), 1)]
    for name, drawing in shown:
        write_atomically(folder / name, svg(drawing))
    return shown


def _pictures(report: Report, files: Sequence[tuple[str, Grid | Chart]]) -> Iterator[str]:
    for name, shown in files:
        yield f"## {words(shown.title)}"
        yield ""
        yield from picture(shown, name)
        yield ""


def _answers(report: Report, answers: Sequence[Kept]) -> Iterator[str]:
    """What localize and diagnose found out about this run."""
    for kept in answers:
        yield from text(kept.document, level=2).splitlines()
        yield ""


def _cells(report: Report) -> Iterator[str]:
    yield "## Cells"
    yield ""
    head = [
        "status",
        "cell",
        "positions",
        "mean KL (nats)",
        "95 % interval",
        "p99 KL",
        "same top-1 (%)",
        "greedy match@10 (%)",
        "why",
    ]
    yield from table_lines(head, (_cell_row(cell) for cell in report.verdict.cells))
    yield "KL is KL(reference‖candidate). A control is an engine with a planted bug: it must be WRONG."
    yield ""


def _cell_row(cell: CellVerdict) -> list[str]:
    kl = cell.metrics.get("kl_divergence", {})
    interval = kl.get("interval")
    control = (
        " (control: as planted)"
        if cell.expected and cell.as_expected
        else " (control: **not caught**)"
        if cell.expected
        else ""
    )
    return [
        f"**{cell.status}**{control}",
        code(cell.cell.id),
        str(cell.positions),
        number(kl.get("mean")),
        f"{number(interval[0])} – {number(interval[1])}" if interval else "–",
        number(kl.get("p99")),
        percent(cell.metrics.get("top1", {}).get("mean"), 2),
        percent(cell.metrics.get("greedy_match_10", {}).get("mean"), 2),
        "" if cell.as_expected else words(cell.reason.partition("\n")[0]),
    ]


def _gates(report: Report) -> Iterator[str]:
    yield "## Gates"
    yield ""
    order = {"FAIL": 0, "ERROR": 1, "NOT-MEASURED": 2, "PASS": 3}
    gates = sorted(report.verdict.gates, key=lambda gate: (gate.control, order[gate.status]))
    head = ["status", "gate", "cell", "what", "observed", "bound", "reference against itself", "would catch", "basis"]
    yield from table_lines(head, (_gate_row(gate) for gate in gates))
    for gate in gates:
        if gate.status in ("FAIL", "ERROR") and not gate.control:
            place = f" on {code(gate.cell)}" if gate.cell else ""
            yield f"**{words(gate.id)}** is {gate.status}{place}: {words(gate.where or gate.reason)}"
            yield ""
            yield from (f"- {paragraph(step)}" for step in gate.if_fails)
            yield ""


def _gate_row(gate: GateVerdict) -> list[str]:
    sign = "≤" if gate.operator == "at_most" else "≥"
    return [
        f"{gate.status} (control, not counted)" if gate.control else f"**{gate.status}**",
        words(gate.id),
        code(gate.cell) if gate.cell else words(gate.reason),
        f"{words(gate.metric)}, {gate.statistic}, {words(gate.scope)}",
        number(gate.observed),
        f"{sign} {number(gate.bound)}",
        f"{number(gate.reference_error)} ({words(gate.reference_run)})" if gate.reference_run else "–",
        words(str(gate.power)) if gate.power else "–",
        words(gate.basis),
    ]


def _comparison_contract(report: Report) -> Iterator[str]:
    """What both sides read, setting by setting, before any logits were judged."""
    yield "## Comparison contract"
    yield ""
    pairs = contract.pairs(report)
    findings = [(pair, finding) for pair in pairs for finding in pair["findings"]]
    if findings:
        yield "These make the comparison unfair; the cells are not judged."
        yield ""
        yield from _findings(findings)
    leave = [(pair, finding) for pair in pairs for finding in pair["skipped"]]
    if leave:
        reasons = dict.fromkeys(pair["reason"] for pair, _ in leave)
        yield f"These stand by leave of the contract: {'; '.join(words(reason) for reason in reasons)}"
        yield ""
        yield from _findings(leave)
    head = ["weights files", "setting", "reference", "candidate", "", "how"]
    yield from table_lines(head, ([code(row[0]), *(words(text) for text in row[1:])] for row in contract.merged(report)))


def _findings(findings: Iterable[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> Iterator[str]:
    head = ["code", "pair", "setting", "reference", "candidate", "where", "remedy"]
    names = ("reference", "candidate")
    yield from table_lines(
        head,
        (
            [
                f"**{finding['code']}**",
                code(contract.name_of(pair)),
                words(f"{finding['setting']}: {finding['text']}" if finding["text"] else finding["setting"]),
                *(words(finding[name]) for name in names),
                code(f"{finding['file']}: {finding['field']}" if finding["field"] else finding["file"]),
                words(finding["remedy"]),
            ]
            for pair, finding in findings
        ),
    )


def _reference_errors(report: Report) -> Iterator[str]:
    """The reference against itself under settings that should not matter, and a witness against it."""
    rows = report.facts.get("reference_error", [])
    if not rows:
        return
    yield "## The reference's own error"
    yield ""
    head = ["model", "weights", "run", "mode", "mean KL (nats)", "largest KL", "largest logit difference", "same top-1 (%)"]
    yield from table_lines(head, (_reference_row(row) for row in rows))
    for cell in report.verdict.cells:
        if cell.witness:
            yield f"- {code(cell.cell.id)}: {words(cell.witness)}"
    yield ""


def _reference_row(row: Mapping[str, Any]) -> list[str]:
    place = [words(row["model"]), words(row["weights"]), words(row["run"]), words(row["mode"])]
    if row["failure"]:
        return [*place, words(f"not measured: {row['failure']}"), "–", "–", "–"]
    kl, delta = row["metrics"].get("kl_divergence", {}), row["metrics"].get("max_delta_logit", {})
    top1 = percent(row["metrics"].get("top1", {}).get("mean"), 2)
    return [*place, number(kl.get("mean")), number(kl.get("max")), number(delta.get("max")), top1]


def _falsified(report: Report) -> Iterator[str]:
    for claim in report.verdict.falsified:
        yield f"### {words(claim.id)} is refuted"
        yield ""
        yield f"{paragraph(claim.prediction)} Failed: {words(', '.join(claim.gates))}."
        yield ""
        yield from (f"{n}. {paragraph(step)}" for n, step in enumerate(claim.steps, 1))
        yield ""


def _waivers(report: Report) -> Iterator[str]:
    if not report.verdict.waivers:
        return
    yield "## Known divergences"
    yield ""
    head = ["status", "waiver", "cell", "prompt", "issue", "until", "what"]
    yield from table_lines(
        head,
        (
            [
                f"**{waiver.status}**",
                words(waiver.id),
                code(waiver.cell),
                words(waiver.prompt_id),
                words(waiver.issue),
                waiver.until,
                words(waiver.text),
            ]
            for waiver in report.verdict.waivers
        ),
    )


def _unmeasured(report: Report) -> Iterator[str]:
    yield "## Not measured"
    yield ""
    unread, defaults = unread_in_words(report.opened), defaults_in_words(report.opened.contract.matrix)
    rows = [[code(cell.cell), words(cell.reason)] for cell in report.verdict.unmeasured]
    rows += [["no cell", words(text)] for text in unread]
    if rows:
        yield from table_lines(["cell", "why"], rows)
    else:
        yield EVERY_CELL
        yield ""
    if defaults:
        yield f"Axes of the matrix by default: {words(defaults)}."
        yield ""


def _errors(report: Report) -> Iterator[str]:
    failures = distinct_failures(report)
    if not failures:
        return
    yield "## Errors"
    yield ""
    for cell, failure in failures.values():
        yield f"**{cell.status}** in {code(cell.cell.id)}, {words(failure.where or failure.engine)}"
        yield ""
        yield from (f"    {visible(line)}" for line in failure.text.strip().splitlines())
        yield ""
        if failure.remedy:
            yield f"Remedy: {words(failure.remedy)}"
            yield ""


def _provenance(report: Report) -> Iterator[str]:
    facts = report.facts
    yield "## Pins, versions, host"
    yield ""
    for name, files in facts["pins"]["models"].items():
        for quantization, pin in files.items():
            commit = f", commit {code(pin['commit'])}" if "commit" in pin else ""
            yield f"- {paragraph(name)} {words(quantization)}: {code(pin['path'])}{commit}, sha256 {code(pin['sha256'])}"
    for name, sha256 in facts["pins"]["suites"].items():
        yield f"- suite {words(name)}: sha256 {code(sha256)}"
    for name, engine in facts["engines"].items():
        versions = ", ".join(f"{key} {value}" for key, value in engine.get("versions", {}).items() if "sha256" not in key)
        yield f"- {paragraph(name)} ({words(engine['engine'])}): {words(json.dumps(engine['options']))}; {words(versions)}"
    yield f"- host: {words(json.dumps(facts['host']))}; logitproof {facts['versions']['logitproof']}; {facts['made_at']}"
    yield from (f"- command: {code(command)}" for command in facts["commands"])
    for row in facts.get("ended_badly", []):
        yield f"- {words(row['engine'])} answered everything and then ended {words(row['how'])}"
