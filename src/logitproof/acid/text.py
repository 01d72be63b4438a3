"""An acid run as a document: its rows, which are shown as they are found, and what they come to; and acid.json."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from logitproof.acid import row as found
from logitproof.acid.probe import FACTOR
from logitproof.acid.row import AcidReport, Measured, Status
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
        (Table(COLUMNS, tuple(row(each) for each in report.rows)),),
        next_command(report),
    )


def row(each: found.Row) -> Row:
    """One check: how far it is from its band and where, and below it the diagnosis."""
    parts = []
    if (worst := each.worst) is not None:
        times = f"{number(worst.ratio)} × band" if each.status == "FAIL" else "within the band"
        parts.append(f"{times} ({number(worst.distance)} of {number(worst.at_most)} logits)")
        if each.status == "FAIL":
            parts.append(f"{worst.case}, {worst.mode}, position {worst.position}")
    if each.precision not in ("", "float32"):
        parts.append(f"judged as {each.precision}")
    if each.reason:
        parts.append(each.reason)
    return Row((each.status, each.check, "  ".join(parts)), TONES[each.status], lines(each.diagnosis))


def verdict(report: AcidReport) -> Verdict:
    """How many rows came out how, and of which it hangs."""
    statuses = [each.status for each in report.rows]
    counts = ", ".join(f"{statuses.count(status)} {status}" for status in TONES if status in statuses)
    unsure = "" if "PASS" in statuses or "FAIL" in statuses else "; nothing was measured, so nothing is proven"
    status: Status = "FAIL" if report.exit_code == 1 else "ERROR" if report.exit_code else "PASS"
    first = next((f"; first {each.check}" for each in report.rows if each.status == status != "PASS"), "")
    reason = f"{report.engine}: {counts} in {report.seconds:.0f} s (weights: {report.weights}){first}{unsure}"
    return Verdict(status, reason, TONES[status])


def next_command(report: AcidReport) -> str:
    """The probes as plain files for the engine's own tests; where it has passed them, a contract for a real model."""
    failed = [each.check for each in report.rows if each.status == "FAIL" and each.kind == "probe"]
    if failed:
        return f"logitproof acid export PROBES --arch {failed[0].split()[0]}"
    return "logitproof new" if report.exit_code == 0 else ""


def answer(report: AcidReport) -> Answer:
    """acid.json. Infinite distances (a logit that is no number) are null."""
    return Answer(KIND, report.engine, report.exit_code, as_json(report))


def as_json(report: AcidReport) -> dict[str, Any]:
    """Plain data; of a measurement also whether it `held`, null where no band judges it."""
    rows = [{**vars(each), "measured": [_measured(measured) for measured in each.measured]} for each in report.rows]
    return {**vars(report), "band_factor": FACTOR, "rows": rows}


def write_report(report: AcidReport, folder: Path) -> Path:
    """acid.json, report.md and report.html in `folder`; returns the first."""
    write_pages(document(report), folder)
    return answer(report).write(folder / "acid.json")


def _measured(measured: Measured) -> dict[str, Any]:
    return {**vars(measured), "held": measured.held if measured.at_most else None}
