"""verdict.json: the whole verdict for machines."""

from __future__ import annotations

from pathlib import Path

from logitproof.documents.wording import json_text
from logitproof.files.atomic import write_atomically
from logitproof.report.report import Report
from logitproof.reporters import Reporter


class Verdict(Reporter):
    """verdict.json: every cell, gate, statistic, pin and version; `schemas/verdict.schema.json` describes it."""

    def render(self, report: Report, folder: Path) -> Path:
        path = folder / "verdict.json"
        write_atomically(path, json_text(report.as_json(), indent=1) + "\n")
        return path
