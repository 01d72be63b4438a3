"""Evidence that was verified, as a document and as JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from logitproof.attestation.keys import visible_id
from logitproof.attestation.statement import GateStatement, value_read
from logitproof.attestation.verify import Verified
from logitproof.documents.answer import Answer
from logitproof.documents.document import Document
from logitproof.documents.section import Column, Line, Row, Table, Text, Tone, Verdict
from logitproof.documents.wording import number, number_of

KIND = "verify-evidence"


def document(path: Path, verified: Verified) -> Document:
    """What was signed, about which files, and what every gate comes to."""
    predicate, verdict = verified.statement.predicate, verified.verdict
    passed = verdict.status == "PASS"
    reason = verdict.reason or f"every gate holds, derived again from {number_of(len(predicate.cells), 'cell')}"
    tone: Tone = "good" if passed else "bad"
    lines = [
        Line(f"signed by the key {visible_id(verified.keyid)}… with logitproof {predicate.version}, {predicate.attested_at}"),
        Line(f"run {predicate.run_id} of {predicate.contract.name} {predicate.contract.version}, {predicate.made_at}"),
        Line(f"contract: {_held(verified)}"),
    ]
    lines += [
        Line(f"engine {name}: not all of its files are known: {build.unknown}", "unsure")
        for name, build in predicate.engines.items()
        if build.unknown
    ]
    lines += [
        Line(f"weights {model} {label}: were not there any more when it was signed", "unsure")
        for model, labels in predicate.models.items()
        for label, weights in labels.items()
        if not weights.seen
    ]
    lines += [Line(f"not measured: {entry.cell}: {entry.reason}", "unsure") for entry in verdict.unmeasured]
    subjects = tuple(Row((entry.name, entry.digest["sha256"])) for entry in verified.statement.subject)
    sections = (
        Text(tuple(lines)),
        Table(GATES, tuple(_gate(gate) for gate in predicate.gates), "Gates"),
        Table(CELLS, tuple(_cell(cell) for cell in predicate.cells), "Cells"),
        Table((Column("subject"), Column("sha256", "code")), subjects, "What it is about"),
    )
    return Document(f"Evidence {path}", Verdict(f"GENUINE: {verdict.status}", reason, tone), sections)


GATES = (Column("gate"), Column("cell"), Column("verdict"), Column("observed", "number"), Column("bound", "number"))
CELLS = (Column("cell"), Column("status"), *(Column(name, "number") for name in ("planned", "measured", "judged")))


def answer(path: Path, verified: Verified) -> Answer:
    """The verdict that was derived, and what it is about; the exit code is the verdict's."""
    predicate, verdict = verified.statement.predicate, verified.verdict
    data: dict[str, Any] = {
        "status": verdict.status,
        "reason": verdict.reason,
        "keyid": verified.keyid,
        "run_id": predicate.run_id,
        "attested_at": predicate.attested_at,
        "contract": predicate.contract.name,
        "contract_checked": verified.contract is not None,
        "subjects": {entry.name: entry.digest["sha256"] for entry in verified.statement.subject},
        "gates": [gate.model_dump(mode="json") for gate in predicate.gates],
        "coverage": {cell.id: cell.coverage.model_dump() for cell in predicate.cells},
    }
    return Answer(KIND, str(path), verdict.exit_code, data)


def _held(verified: Verified) -> str:
    sha256 = verified.statement.predicate.contract.sha256
    if verified.contract is None:
        return f"sha256 {sha256}; give --contract FILE to hold it against the one that was agreed"
    return f"is {verified.contract}, sha256 {sha256}"


def _gate(gate: GateStatement) -> Row:
    sign = "≤" if gate.operator == "at_most" else "≥"
    tone: Tone = "good" if gate.status == "PASS" else "quiet" if gate.control else "bad"
    observed, bound = number(value_read(gate.observed)), f"{sign} {number(value_read(gate.bound))}"
    return Row((gate.id, gate.cell or "no cell", gate.status, observed, bound), tone)


def _cell(cell: Any) -> Row:
    coverage = cell.coverage
    tone: Tone = "good" if cell.as_expected else "bad"
    return Row((cell.id, cell.status, str(coverage.planned), str(coverage.measured), str(coverage.judged)), tone)
