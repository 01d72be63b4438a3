"""The table of figures: what does not hold, and what was not measured, is never laid out as if it did."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
NAMES = ("peer", "overhead", "compare", "memory", "stream", "scale")


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import _table

    yield _table
    sys.modules.pop("_table", None)


def results(**content: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {name: content.get(name, {}) for name in NAMES}


def row(page: str, figure: str) -> str:
    return next(line for line in page.splitlines() if f"| {figure} |" in line)


@pytest.mark.parametrize(
    ("value", "held"), [(0.9, "yes"), (1.0, "yes"), (1.01, "**no**"), (None, "NOT-MEASURED"), (float("nan"), "NOT-MEASURED")]
)
def test_a_figure_holds_up_to_its_limit(table: Any, value: float | None, held: str) -> None:
    page = table.page(results(peer={"wall_ratio": value, "limits": {"wall_ratio": 1.0}}))
    assert f"| {held} |" in row(page, "wall_ratio")


def test_more_is_better_where_it_says_times_as_fast(table: Any) -> None:
    for value, held in ((25.0, "yes"), (11.0, "**no**")):
        page = table.page(results(peer={"script_ratio": value, "limits": {"script_ratio": 20.0}}))
        assert "≥ 20" in row(page, "script_ratio") and f"| {held} |" in row(page, "script_ratio")


def test_every_instruction_set_and_axis_has_a_row(table: Any) -> None:
    compared = {"isa": {"avx512": {"float32": 2.5}, "avx2": {"float32": 2.5}}, "limits": {"avx512": 2.0, "avx2": 3.0}}
    grown = {"exponents": {"tokens": {"seconds": 1.2, "memory": 0.0}}, "limits": {"exponents": 1.05}}
    page = table.page(results(compare=compared, scale=grown))
    assert "**no**" in row(page, "avx512, float32") and "yes" in row(page, "avx2, float32")
    assert "**no**" in row(page, "seconds by tokens") and "yes" in row(page, "memory by tokens")


def test_a_file_that_is_not_there_is_told(table: Any) -> None:
    page = table.page(results())
    assert page.count("NOT-MEASURED") == page.count("\n| ") - 2 - len(NAMES)
    assert "yes" not in page


def test_the_page_is_that_of_the_files(table: Any) -> None:
    """`python benchmarks/_table.py` writes it."""
    assert (BENCHMARKS / "RESULTS.md").read_text("utf-8") == table.page({name: table.read(name) for name in NAMES})


@pytest.mark.parametrize(("power", "constant"), [(1.0, 0.0), (1.0, 50.0), (2.0, 5.0), (0.5, 1.0)])
def test_an_exponent_is_found_whatever_every_run_costs(monkeypatch: pytest.MonkeyPatch, power: float, constant: float) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import scale

    sizes = [100.0 * times for times in scale.GROWTH]
    points = [{"size": size, "cpu_s": constant + (size - sizes[0]) ** power} for size in sizes]
    assert scale.exponent(points, "cpu_s") == pytest.approx(power)
    assert scale.exponent([{"size": size, "cpu_s": 5 + size / 1e4} for size in sizes], "cpu_s") == 0.0


FOLDER = re.compile(r"(?<![\w.])/(?:tmp|home|root|dev/shm|var/tmp)/[\w.]+")


@pytest.mark.parametrize("path", sorted((BENCHMARKS / "results").glob("*.json")), ids=lambda path: path.stem)
def test_no_result_names_a_folder_of_the_machine_that_made_it(path: Path) -> None:
    assert FOLDER.findall(path.read_text("utf-8")) == []
