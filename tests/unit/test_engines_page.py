"""What the page of engines says is what the engines that are here say of themselves, and what was measured."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from logitproof import catalog

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/engines.md"


def result() -> dict[str, Any]:
    """What the benchmark measured."""
    measured: dict[str, Any] = json.loads((ROOT / "benchmarks/results/engines.json").read_text("utf-8"))
    return measured


def test_the_page_has_every_engine_as_it_describes_itself(module_of: Callable[[Path], Any]) -> None:
    text = PAGE.read_text("utf-8")
    assert module_of(ROOT / "docs/engines_table.py").page(text) == text, "run `python docs/engines_table.py`"
    assert [name for name in catalog.entries("engines") if f"| `{name}` |" not in text] == []


def test_the_page_has_the_figures_of_the_last_measurement(module_of: Callable[[Path], Any]) -> None:
    page = PAGE.read_text("utf-8")
    tables = module_of(ROOT / "benchmarks/_engines_page.py").tables(result())
    assert (
        len(tables) == 6
        and [mark for mark, table in tables.items() if f"<!-- {mark} -->\n{table}<!-- /{mark} -->" not in page] == []
    )


def test_every_measurement_that_is_no_pass_has_a_cause() -> None:
    cells = result()["cells"]
    assert cells and [cell for cell in cells if cell["status"] != "PASS" and not cell["cause"]] == []


def test_every_disagreement_is_diagnosed_or_written_up() -> None:
    failed = [cell for cell in result()["cells"] if cell["status"] == "FAIL"]
    assert (
        failed
        and [cell for cell in failed if not ("diagnose: " in cell["cause"] or "docs/findings.md: " in cell["cause"])] == []
    )


def test_every_axis_is_measured_and_no_cell_stands_twice() -> None:
    cells = result()["cells"]
    names = [tuple(cell[key] for key in ("engine", "family", "probe", "quantization", "mode")) for cell in cells]
    assert len(names) == len(set(names)) and all(result()["by_axis"].values()), result()["by_axis"]
    assert sum(result()["by_axis"].values()) == len(cells) == sum(result()["counts"].values())
    assert {cell["probe"] for cell in cells} - {None} == set(result()["probes"])


def test_every_format_is_measured_or_says_why_not() -> None:
    measured, whys = {cell["quantization"] for cell in result()["cells"]}, result().get("not_made", {})
    left = [kind for kind in result()["quantizations"] if kind not in measured and not whys.get(kind)]
    assert left == result()["not_measured"] and len(left) < len(result()["quantizations"])


def test_every_finding_that_a_measurement_points_to_is_on_the_page_of_findings(module_of: Callable[[Path], Any]) -> None:
    page = (ROOT / "docs/findings.md").read_text("utf-8")
    titles = module_of(ROOT / "benchmarks/_engines_subjects.py").FINDINGS.values()
    assert titles and [title for title in titles if f"## {title}\n" not in page] == []
