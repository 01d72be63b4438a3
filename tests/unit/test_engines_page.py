"""What the page of engines says is what the engines that are here say of themselves, and what was measured."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from logitproof import catalog

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/engines.md"


def test_the_page_has_every_engine_as_it_describes_itself(module_of: Callable[[Path], Any]) -> None:
    text = PAGE.read_text("utf-8")
    assert module_of(ROOT / "docs/engines_table.py").page(text) == text, "run `python docs/engines_table.py`"
    assert [name for name in catalog.entries("engines") if f"| `{name}` |" not in text] == []


def test_the_page_has_the_figures_of_the_last_measurement(module_of: Callable[[Path], Any]) -> None:
    result = json.loads((ROOT / "benchmarks/results/engines.json").read_text("utf-8"))
    assert module_of(ROOT / "benchmarks/engines.py").markdown(result["cells"]) in PAGE.read_text("utf-8")


def test_every_measurement_that_is_no_pass_has_a_cause() -> None:
    cells = json.loads((ROOT / "benchmarks/results/engines.json").read_text("utf-8"))["cells"]
    assert cells and [one for one in cells if one["status"] != "PASS" and not one["cause"]] == []


def test_every_finding_that_a_measurement_points_to_is_on_the_page_of_findings(module_of: Callable[[Path], Any]) -> None:
    page = (ROOT / "docs/findings.md").read_text("utf-8")
    titles = module_of(ROOT / "benchmarks/_engines_subjects.py").FINDINGS.values()
    assert titles and [title for title in titles if f"## {title}\n" not in page] == []
