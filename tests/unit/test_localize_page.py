"""The pages of taps and of localize say what the code does and what was measured."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from logitproof.protocol import taps

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

import _localize_page  # noqa: E402
import _page  # noqa: E402


def test_the_page_has_every_tap(module_of: Callable[[Path], Any]) -> None:
    text = (ROOT / "docs/taps.md").read_text("utf-8")
    assert module_of(ROOT / "docs/taps_table.py").page(text) == text, "run `python docs/taps_table.py`"
    assert all(f"`layers.N.{leaf}`" in text for leaf in taps.LAYER)


def test_the_table_of_the_page_is_what_the_benchmark_measured() -> None:
    result = json.loads((ROOT / "benchmarks/results/localize.json").read_text("utf-8"))
    text = (ROOT / "docs/localize.md").read_text("utf-8")
    assert _page.replaced(text, "measured", _localize_page.markdown(result)) == text, "run `make bench-localize`"


def test_the_result_says_what_it_must_show() -> None:
    result = json.loads((ROOT / "benchmarks/results/localize.json").read_text("utf-8"))
    assert result["located_right"] >= 0.97 * result["planted"] > 0
    assert result["false_flags"] == 0
    assert result["two_bug_found"] == result["two_bug_cases"] > 0
    assert result["tap_max_relative"] <= 1e-4 and result["overhead_ratio"] <= 3
