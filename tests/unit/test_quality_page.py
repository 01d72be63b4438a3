"""The page holds the figures that the quality benchmark measured, and no others."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RESULT = ROOT / "benchmarks/results/quality.json"


@pytest.fixture(autouse=True)
def _benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))


def test_the_page_has_the_figures_of_the_results() -> None:
    page, text = importlib.import_module("_quality_page"), (ROOT / "docs/quality.md").read_text("utf-8")
    result = json.loads(RESULT.read_text("utf-8"))
    assert f"<!-- bench -->\n{page.markdown(result)}<!-- /bench -->" in text, "run benchmarks/quality.py"
    sys.modules.pop("_quality_page")


def test_the_results_keep_what_the_page_promises() -> None:
    result = json.loads(RESULT.read_text("utf-8"))
    assert result["caught"] == result["planted"] == len(result["faults"]) == 8
    assert all(bool(one["wrong"]) is one["bug"] for one in result["seeded"]) and len(result["seeded"]) >= 10
    drift = {(one["engine"], one["model"]): one for one in result["horizon"]}
    assert not any(one["grows"] or one["jumps"] for (engine, _), one in drift.items() if engine.startswith("llamacpp"))
    assert all(one["grows"] for (engine, _), one in drift.items() if engine.startswith("RoPE")) and len(drift) == 6


def test_the_bars_of_a_release_note_are_met_by_engines_that_are_right() -> None:
    result = json.loads(RESULT.read_text("utf-8"))
    assert len(result["cells"]) >= 4 and all(one["meets_bar"] for one in result["cells"])
    assert all(one["greedy10"] >= 0.99 and one["kl_mean_100"] <= 0.01 for one in result["cells"])
    assert result["sample_trials"] >= 200 and result["sample_false_positives"] <= 0.06 and result["sample_power"] >= 0.9
