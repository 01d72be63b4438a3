"""verdict.json: the whole verdict for machines."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from logitproof.report import Report
from logitproof.reporters import Reporter
from logitproof.store import write_atomically


class Verdict(Reporter):
    """verdict.json: every cell, gate, statistic, pin and version; `schemas/verdict.schema.json` describes it."""

    def render(self, report: Report, folder: Path) -> Path:
        path = folder / "verdict.json"
        write_atomically(path, json.dumps(plain(report.as_json()), indent=1, allow_nan=False) + "\n")
        return path


def plain(value: Any) -> Any:
    """The value with every number that JSON cannot write as null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return value
