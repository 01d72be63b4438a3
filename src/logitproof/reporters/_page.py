"""A report as a document: what a person opens, from the verdict down to the command that repeats it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from logitproof.documents.document import Document
from logitproof.documents.section import Explorer, Line, Section, Text, Tone, Verdict, lines
from logitproof.documents.stored import Kept
from logitproof.documents.wording import number_of
from logitproof.report.report import Report
from logitproof.reporters import _page_tables as tables
from logitproof.reporters._charts import pictures
from logitproof.reporters._decisive import decisive, following
from logitproof.reporters._errors import distinct_failures
from logitproof.reporters._explorer import explorer

TONES: dict[str, Tone] = {"PASS": "good", "FAIL": "bad", "ERROR": "unsure"}
QUESTIONS = {"localize": "Where it starts", "diagnose": "Which known bug it is"}


def document(report: Report, folder: Path, answers: Sequence[Kept] = ()) -> Document:
    """The page of a run; `answers` are what localize and diagnose found out about it."""
    verdict, stated = report.verdict, report.opened.contract
    shown = explorer(report)
    sections: list[Section | None] = [
        _summary(report),
        tables.cells(report),
        tables.gates(report, shown.data["cells"] if shown else []),
        *(part for kept in sorted(answers, key=_order) for part in _answer(kept)),
        shown,
        *pictures(report),
        _errors(report),
        tables.waivers(report),
        _falsified(report),
        tables.unmeasured(report),
        *tables.contract(report),
        *tables.reference_errors(report),
        *tables.provenance(report),
        _commands(report.facts),
    ]
    kept = tuple(section for section in sections if section is not None)
    reason = Verdict(verdict.status, decisive(report, answers), TONES[verdict.status])
    return Document(f"{stated.contract} {stated.version}", reason, kept, following(report, folder, answers))


def _summary(report: Report) -> Text:
    verdict = report.verdict
    counted = [gate for gate in verdict.gates if not gate.control]
    held = sum(gate.status == "PASS" for gate in counted)
    positions = sum(cell.positions for cell in verdict.cells)
    first = (
        f"{held} of {len(counted)} gates hold; {number_of(positions, 'position')} in {number_of(len(verdict.cells), 'cell')}. "
        f"Exit code {verdict.exit_code}. Run {report.facts.get('run_id', '')}, {report.facts.get('made_at', '')}"
    )
    return Text((*lines(report.opened.contract.about), Line(first.strip(), "quiet")))


def _order(kept: Kept) -> int:
    """Where it starts is asked before why."""
    return list(QUESTIONS).index(kept.kind) if kept.kind in QUESTIONS else len(QUESTIONS)


def _answer(kept: Kept) -> Iterator[Section]:
    """The sections of an answer about this run, opened by its verdict."""
    answer = kept.document
    title = QUESTIONS.get(kept.kind, kept.kind)
    opening = [Line(f"{answer.verdict.status}: {answer.verdict.reason}", answer.verdict.tone)]
    if answer.next_command:
        opening.append(Line(f"next: {answer.next_command}"))
    yield Text(tuple(opening), title)
    for section in answer.sections:
        if not isinstance(section, Explorer):
            yield replace(section, title=f"{title}: {section.title}" if section.title else "")


def _errors(report: Report) -> Text | None:
    shown: list[Line] = []
    for cell, failure in distinct_failures(report).values():
        shown.append(Line(f"{cell.status} in {cell.cell.id}, {failure.where or failure.engine}", "unsure"))
        shown += lines(failure.text.strip(), level=1)
        if failure.remedy:
            shown.append(Line(f"remedy: {failure.remedy}", level=1))
    return Text(tuple(shown), "Errors") if shown else None


def _falsified(report: Report) -> Text | None:
    shown: list[Line] = []
    for entry in report.verdict.falsified:
        shown.append(Line(f"{entry.id} is refuted: {entry.prediction} Failed: {', '.join(entry.gates)}.", "bad"))
        shown += [Line(step, level=1) for step in entry.steps]
    return Text(tuple(shown), "Refuted predictions") if shown else None


def _commands(facts: Any) -> Text:
    return Text(tuple(Line(command) for command in facts["commands"]), "To repeat it", verbatim=True)
