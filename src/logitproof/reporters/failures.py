"""failures.jsonl: a line a failing position, for grep and for scripts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from logitproof.documents.wording import json_text
from logitproof.files.atomic import write_atomically
from logitproof.report.report import Report
from logitproof.reporters import Reporter


class Failures(Reporter):
    """failures.jsonl: model, quantization, prompt, token, the top five of both with their text, and delta."""

    def render(self, report: Report, folder: Path) -> Path:
        path = folder / "failures.jsonl"
        lines = [json_text(_with_text(report, record)) for record in report.failing_positions()]
        write_atomically(path, "".join(f"{line}\n" for line in lines))
        return path


def _with_text(report: Report, record: dict[str, Any]) -> dict[str, Any]:
    shown = dict(record)
    if "label" in record:
        label = record["label"]
        shown["label"] = {"id": label, "text": report.piece(record["model"], label)} if label >= 0 else None
    for side in ("top5_reference", "top5_candidate"):
        if side in record:
            shown[side] = [
                {"id": token, "text": report.piece(record["model"], token), "logit": logit}
                for token, logit in record[side]
                if token >= 0
            ]
    return shown
