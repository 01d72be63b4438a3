"""Shows an acid run: a line for each row as it is found, a last line, and acid.json."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from logitproof.acid.probe import FACTOR
from logitproof.acid.row import AcidReport, Row
from logitproof.files.atomic import write_atomically
from logitproof.report.wording import json_text, number, visible

FORMAT = 1


def line(row: Row) -> str:
    """One line for the terminal, and under it the diagnosis."""
    worst = row.worst
    parts = [f"{row.status:<12}  {row.check:<38}"]
    if worst is not None:
        times = f"{number(worst.ratio)} × band" if row.status == "FAIL" else "within the band"
        parts.append(f"{times} ({number(worst.distance)} of {number(worst.at_most)} logits)")
        if row.status == "FAIL":
            parts.append(f"{worst.case}, {worst.mode}, position {worst.position}")
    if row.precision not in ("", "float32"):
        parts.append(f"judged as {row.precision}")
    if row.reason:
        parts.append(visible(row.reason))
    text = "  ".join(parts).rstrip()
    told = [visible(part) for part in row.diagnosis.splitlines() if part.strip()]
    return "\n".join([text, *(f"              {part}" for part in told)])


def summary(report: AcidReport) -> str:
    """The last line: how many rows came out how."""
    found = [row.status for row in report.rows]
    counts = ", ".join(f"{found.count(one)} {one}" for one in ("PASS", "FAIL", "ERROR", "NOT-MEASURED") if one in found)
    unsure = "" if "PASS" in found or "FAIL" in found else "; nothing was measured, so nothing is proven"
    return f"{visible(report.engine)}: {counts} in {report.seconds:.0f} s (weights: {report.weights}){unsure}"


def to_json(report: AcidReport) -> str:
    """The whole report. Infinite distances (a logit that is no number) are null."""
    rows = [
        asdict(row) | {"measured": [asdict(one) | {"held": one.held if one.at_most else None} for one in row.measured]}
        for row in report.rows
    ]
    about = {name: value for name, value in asdict(report).items() if name != "rows"}
    return json_text({"format": FORMAT, **about, "band_factor": FACTOR, "exit_code": report.exit_code, "rows": rows}, indent=1)


def write_report(report: AcidReport, folder: Path) -> Path:
    """acid.json in `folder`, whole or not at all."""
    path = folder / "acid.json"
    write_atomically(path, to_json(report) + "\n")
    return path
