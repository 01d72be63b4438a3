"""An acid run as a document: its rows, which are shown as they are found, and what they come to; and acid.json."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from logitproof.acid.probe import FACTOR
from logitproof.acid.row import AcidReport, Measured, Status
from logitproof.acid.row import Row as AcidRow
from logitproof.documents.answer import Answer
from logitproof.documents.document import Document
from logitproof.documents.pages import write_pages
from logitproof.documents.section import Column, Row, Table, Tone, Verdict, lines
from logitproof.documents.wording import number

KIND = "acid"
TONES: dict[Status, Tone] = {"PASS": "good", "FAIL": "bad", "ERROR": "unsure", "NOT-MEASURED": "unsure"}
COLUMNS = (Column("", width=12), Column("check", "code", 38), Column("what was found"))


def document(report: AcidReport) -> Document:
    """Every row, and the first that fails as the reason."""
    return Document(
        f"Acid test of {report.engine}",
        verdict(report),
        (Table(COLUMNS, tuple(row(acid_row) for acid_row in report.rows)),),
        next_command(report),
    )


def row(acid_row: AcidRow) -> Row:
    """One check: how far it is from its band and where, and below it the diagnosis."""
    parts = []
    if (worst := acid_row.worst) is not None:
        times = f"{number(worst.ratio)} × band" if acid_row.status == "FAIL" else "within the band"
        parts.append(f"{times} ({number(worst.distance)} of {number(worst.at_most)} logits)")
        if acid_row.status == "FAIL":
            parts.append(f"{worst.case}, {worst.mode}, position {worst.position}")
    if acid_row.precision not in ("", "float32"):
        parts.append(f"judged as {acid_row.precision}")
    if acid_row.reason:
        parts.append(acid_row.reason)
    return Row((acid_row.status, acid_row.check, "  ".join(parts)), TONES[acid_row.status], lines(acid_row.diagnosis))


def verdict(report: AcidReport) -> Verdict:
    """How many rows have each status, and the first row of the status that decides."""
    statuses = [acid_row.status for acid_row in report.rows]
    counts = ", ".join(f"{statuses.count(status)} {status}" for status in TONES if status in statuses)
    unsure = "" if "PASS" in statuses or "FAIL" in statuses else "; nothing was measured, so nothing is proven"
    status: Status = "FAIL" if report.exit_code == 1 else "ERROR" if report.exit_code else "PASS"
    first = next((f"; first {acid_row.check}" for acid_row in report.rows if acid_row.status == status != "PASS"), "")
    reason = f"{report.engine}: {counts} in {report.seconds:.0f} s (weights: {report.weights}){first}{unsure}"
    return Verdict(status, reason, TONES[status])


def next_command(report: AcidReport) -> str:
    """The probes as plain files for the engine's own tests; where it has passed them, a contract for a real model."""
    failed = [acid_row.check for acid_row in report.rows if acid_row.status == "FAIL" and acid_row.kind == "probe"]
    if failed:
        return f"logitproof acid export PROBES --arch {failed[0].split()[0]}"
    return "logitproof new" if report.exit_code == 0 else ""


def answer(report: AcidReport) -> Answer:
    """acid.json. Infinite distances (a logit that is no number) are null."""
    return Answer(KIND, report.engine, report.exit_code, as_json(report))


def as_json(report: AcidReport) -> dict[str, Any]:
    """Plain data; of a measurement also whether it `held`, null where no band judges it."""
    rows = [
        {**vars(acid_row), "measured": [_measured(measurement) for measurement in acid_row.measured]}
        for acid_row in report.rows
    ]
    return {**vars(report), "band_factor": FACTOR, "rows": rows}


def write_report(report: AcidReport, folder: Path) -> Path:
    """acid.json, report.md and report.html in `folder`; returns the first."""
    write_pages(document(report), folder)
    return answer(report).write(folder / "acid.json")


def _measured(measured: Measured) -> dict[str, Any]:
    return {**vars(measured), "held": measured.held if measured.at_most else None}
