"""The tables of kernels in the page of bands are what was measured."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def test_the_page_has_the_figures_of_the_last_measurement(module_of: Callable[[Path], Any]) -> None:
    benchmark = module_of(ROOT / "benchmarks/kernels.py")
    found = json.loads((ROOT / "benchmarks/results/kernels.json").read_text("utf-8"))
    text = (ROOT / "docs/bands.md").read_text("utf-8")
    for part in (benchmark.table, benchmark.summary, benchmark.instructions, benchmark.lengths):
        assert part(found) in text, "run `make bench-kernels`"
    assert found["kinds"] == benchmark.kinds(found["rows"]) and found["kernels"] == len(found["rows"])
