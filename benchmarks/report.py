"""What the page of a report weighs, how fast it answers in Chromium, and whether everyone can use it.

python benchmarks/report.py writes benchmarks/results/report.json.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

import _report_browser as browser
from _report_subject import VOCABULARY, report

SIZE = (4, 10, 50)
LARGE = (1, 100, 200)
"""Cells, prompts and tokens."""


def measure() -> dict[str, Any]:
    """Everything that benchmarks/results/report.json says."""
    with tempfile.TemporaryDirectory() as folder, browser.browser() as started:
        (Path(folder) / "large").mkdir()
        small = browser.write(report(*SIZE), Path(folder))
        large = browser.write(report(*LARGE), Path(folder) / "large")
        pages = [browser.opened(started, small, color_scheme=scheme) for scheme in ("light", "dark")]
        phone = browser.opened(started, small, viewport={"width": 390, "height": 844})
        violations = [found for page in (*pages, phone) for found in browser.axe_violations(page)]
        times = browser.interactions(browser.opened(started, large))
        executed = sum(browser.xss_executed(page) for page in (*pages, phone))
        return {
            "page_bytes": small.stat().st_size,
            "page_cells_prompts_tokens": SIZE,
            "large_page_bytes": large.stat().st_size,
            "interaction_ms_p95": round(float(np.percentile(times, 95)), 2),
            "interactions": len(times),
            "interaction_cells_prompts_tokens": LARGE,
            "vocabulary": VOCABULARY,
            "axe_violations": len(violations),
            "axe_found": violations[:10],
            "xss_executed": executed,
            "clicks_to_cause": browser.clicks_to_cause(browser.opened(started, small)),
            "browser": started.version,
        }


if __name__ == "__main__":
    found = measure()
    Path(__file__).with_name("results").joinpath("report.json").write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    print(json.dumps(found, indent=1))
