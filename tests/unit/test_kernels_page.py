"""The tables of kernels in the page of bands are what was measured."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def module_of(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(f"benchmark_{path.stem}", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.parent))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(path.parent))
    return module


def test_the_page_has_the_figures_of_the_last_measurement() -> None:
    benchmark = module_of(ROOT / "benchmarks/kernels.py")
    found = json.loads((ROOT / "benchmarks/results/kernels.json").read_text("utf-8"))
    text = (ROOT / "docs/bands.md").read_text("utf-8")
    for part in (benchmark.table, benchmark.summary, benchmark.instructions, benchmark.lengths):
        assert part(found) in text, "run `make bench-kernels`"
    assert found["kinds"] == benchmark.kinds(found["rows"]) and found["kernels"] == len(found["rows"])
