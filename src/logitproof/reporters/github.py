"""annotations.txt: what GitHub Actions shows at the lines of the contract."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from logitproof.documents.wording import encodable, visible
from logitproof.files.atomic import environment_errors, write_atomically
from logitproof.report.report import Report
from logitproof.report.unfinished import Unfinished
from logitproof.reporters import Reporter
from logitproof.reporters._findings import contract_place, findings, place_in_repository

SHOWN = 10
"""Annotations of a kind that GitHub shows of one step; the rest stand in the step summary."""


class Github(Reporter):
    """annotations.txt: a workflow command a finding, at the contract's line; the worst ten errors and ten notices."""

    def render(self, report: Report, folder: Path) -> Path:
        path = folder / "annotations.txt"
        file, lines = _property(contract_place(report)[1]), []
        for level, command in (("error", "error"), ("note", "notice")):
            of_level = [finding for finding in findings(report) if finding.level == level]
            for finding in of_level[:SHOWN]:
                lines.append(
                    f"::{command} file={file},line={finding.line},title={_property(finding.title)}::{_message(finding.text)}\n"
                )
        write_atomically(path, encodable("".join(lines)))
        return path

    def unfinished(self, run: Unfinished, folder: Path) -> None:
        """An error for each fault, at its line."""
        title = _property(f"{run.contract} came to no verdict")
        lines = []
        for fault in run.faults[:SHOWN]:
            place = _property(place_in_repository(Path(fault.file))[1])
            lines.append(f"::error file={place},line={fault.line},title={title}::{_message(fault.text)}\n")
        write_atomically(folder / "annotations.txt", encodable("".join(lines)))


def tell_github(folder: Path, environment: Mapping[str, str]) -> str:
    """Append a run's summary to GITHUB_STEP_SUMMARY and return its workflow commands, to be printed.

    Does nothing and returns nothing where GITHUB_ACTIONS is not `true`, or the run has not been rendered.
    """
    if environment.get("GITHUB_ACTIONS") != "true":
        return ""
    annotations, summary = folder / "annotations.txt", folder / "step_summary.md"
    if (target := environment.get("GITHUB_STEP_SUMMARY")) and summary.exists():
        with environment_errors(Path(target)), open(target, "a", encoding="utf-8") as file:
            file.write(summary.read_text("utf-8") + "\n")
    return annotations.read_text("utf-8") if annotations.exists() else ""


def _message(text: str) -> str:
    """A message in one line, as the runner decodes it."""
    return "%0A".join(visible(line).replace("%", "%25") for line in text.splitlines())


def _property(text: str) -> str:
    return _message(text).replace(":", "%3A").replace(",", "%2C")
