"""The figures on the acid page are those of the benchmark's result."""

from __future__ import annotations

import json
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

import _acid_page  # noqa: E402


def test_the_table_of_the_page_is_what_the_benchmark_measured() -> None:
    result = json.loads((ROOT / "benchmarks" / "results" / "acid.json").read_text("utf-8"))
    text = (ROOT / "docs" / "acid.md").read_text("utf-8")
    assert _acid_page.page(text, result) == text, "run `make bench-acid`"


def test_the_result_says_what_it_must_show() -> None:
    result = json.loads((ROOT / "benchmarks" / "results" / "acid.json").read_text("utf-8"))
    assert result["killed"] >= 0.99 * (result["mutations"] - result["equivalent"])
    assert result["killed"] + len({name.partition("(")[0] for name in result["survivors"]}) + len(result["in_no_probe"]) == (
        result["mutations"] - result["equivalent"]
    )
    assert result["good_variants"] >= 50 and result["false_alarms"] == 0
    assert len(result["good_engines"]) >= 4
    assert result["acid_seconds"] <= result["acid_seconds_allowed"] == 120
