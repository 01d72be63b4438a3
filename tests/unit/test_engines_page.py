"""What the page of engines says is what the engines that are here say of themselves, and what was measured."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

from logitproof import catalog

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/engines.md"


def _module(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.parent))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(path.parent))
    return module


def test_the_page_has_every_engine_as_it_describes_itself() -> None:
    text = PAGE.read_text("utf-8")
    assert _module(ROOT / "docs/engines_table.py").page(text) == text, "run `python docs/engines_table.py`"
    assert [name for name in catalog.entries("engines") if f"| `{name}` |" not in text] == []


def test_the_page_has_the_figures_of_the_last_measurement() -> None:
    result = json.loads((ROOT / "benchmarks/results/engines.json").read_text("utf-8"))
    assert _module(ROOT / "benchmarks/engines.py").markdown(result["cells"]) in PAGE.read_text("utf-8")


def test_every_measurement_that_is_no_pass_has_a_cause() -> None:
    cells = json.loads((ROOT / "benchmarks/results/engines.json").read_text("utf-8"))["cells"]
    assert cells and [one for one in cells if one["status"] != "PASS" and not one["cause"]] == []


def test_every_finding_that_a_measurement_points_to_is_on_the_page_of_findings() -> None:
    page = (ROOT / "docs/findings.md").read_text("utf-8")
    titles = _module(ROOT / "benchmarks/_engines_subjects.py").FINDINGS.values()
    assert titles and [title for title in titles if f"## {title}\n" not in page] == []
