"""What an engine did with the rules of the protocol, as a document and as JSON."""

from __future__ import annotations

from logitproof.conformance import conformance
from logitproof.conformance.conformance import Conformance, Status
from logitproof.documents.answer import Answer
from logitproof.documents.document import Document
from logitproof.documents.section import Column, Line, Row, Table, Tone, Verdict
from logitproof.files.last_words import shortened

KIND = "conformance"
TONES: dict[Status, Tone] = {"PASS": "good", "FAIL": "bad", "NOT-OFFERED": "quiet"}
STATUSES: dict[int, tuple[str, Tone]] = {0: ("KEPT", "good"), 1: ("BROKEN", "bad"), 3: ("NOTHING ASKED", "unsure")}
"""By exit code."""
COLUMNS = (Column("", width=11), Column("rule", width=20), Column("what came back"))
WORDS = 12
"""Lines of a process's words that are shown."""


def document(report: Conformance) -> Document:
    """Every rule, and the first that is broken as the reason."""
    rows = tuple(row(outcome) for outcome in report.rows)
    return Document(f"Does {report.engine} keep the protocol?", verdict(report), (Table(COLUMNS, rows),))


def row(outcome: conformance.Row) -> Row:
    """One rule, and where it is broken the remedy, below what the process wrote before it ended."""
    words = [Line(line, "quiet", 1) for line in shortened([line for line in outcome.words if line.strip()], WORDS)]
    notes = (*words, Line(f"remedy: {outcome.remedy}")) if outcome.status == "FAIL" else ()
    return Row((outcome.status, outcome.rule, outcome.said), TONES[outcome.status], notes)


def verdict(report: Conformance) -> Verdict:
    """How many rules are kept."""
    kept = sum(outcome.status == "PASS" for outcome in report.rows)
    row = report.first_to_mend
    first = f"; first to mend: {row.rule}: {row.said}" if row else ""
    reason = f"{kept} of {len(report.rows)} rules kept, {len(report.failed)} broken{first}"
    status, tone = STATUSES[report.exit_code]
    return Verdict(status, reason, tone)


def answer(report: Conformance) -> Answer:
    """A record a rule."""
    return Answer(KIND, report.engine, report.exit_code, report.as_json())
