"""The figures on the acid page are those of the benchmarks' results, and count no bug twice."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

import _acid_page  # noqa: E402

from logitproof import catalog  # noqa: E402
from logitproof.acid.probe import probe_names  # noqa: E402

ACID, FAMILIES = _acid_page.results()


def figures(acid: dict[str, Any], families: dict[str, Any]) -> dict[str, str]:
    return {name: figure for name, figure, _ in _acid_page.rows(acid, families)}


def test_the_table_of_the_page_is_what_the_benchmarks_measured() -> None:
    text = (ROOT / "docs" / "acid.md").read_text("utf-8")
    assert _acid_page.page(text, ACID, FAMILIES) == text, "run `make bench-acid` or `make bench-families`"


def test_every_row_has_the_day_of_its_measurement() -> None:
    rows = _acid_page.rows(ACID, FAMILIES)
    assert len(rows) > 15 and all(day.startswith("20") for _, _, day in rows)


def test_every_bug_and_every_probe_that_was_measured_is_still_there() -> None:
    planted = {name.partition("(")[0] for name in ACID["matrix"]} | set(FAMILIES["killed_by"]) | set(FAMILIES["survivors"])
    probes = {probe for ratios in ACID["matrix"].values() for probe in ratios} | set(FAMILIES["by_family"])
    assert planted <= set(catalog.entries("mutations"))
    assert probes == set(probe_names()), "a probe was made or taken away since: measure it"
    shown = figures(ACID, FAMILIES)
    equivalent = ACID["equivalent"] + len(FAMILIES["equivalent"])
    assert shown["known bugs planted, of them equivalent"] == f"{len(planted) + equivalent}, {equivalent}"
    assert shown[f"killed by one of {len(probes)} probes at ten bands"] == f"{len(planted)} of {len(planted)}"


def test_a_bug_that_both_benchmarks_planted_counts_once() -> None:
    name = next(iter(FAMILIES["killed_by"]))
    again = {**ACID, "matrix": {**ACID["matrix"], name: {"llama3": "1e+05 by prefill short"}}}
    again |= {"mutations": ACID["mutations"] + 1, "killed": ACID["killed"] + 1}
    key = "known bugs planted, of them equivalent"
    assert figures(again, FAMILIES)[key] == figures(ACID, FAMILIES)[key]


def test_a_survivor_of_either_benchmark_is_no_killed_one() -> None:
    parted = {
        **FAMILIES,
        "killed_by": dict(list(FAMILIES["killed_by"].items())[1:]),
        "survivors": list(FAMILIES["killed_by"])[:1],
    }
    killed, judged = next(text for name, text in figures(ACID, parted).items() if name.startswith("killed by")).split(" of ")
    assert int(killed) == int(judged) - 1


def test_without_the_families_the_page_says_what_one_benchmark_measured() -> None:
    shown = figures(ACID, {})
    assert shown["known bugs planted, of them equivalent"] == f"{ACID['mutations']}, {ACID['equivalent']}"


def test_the_result_says_what_it_must_show() -> None:
    result = json.loads((ROOT / "benchmarks" / "results" / "acid.json").read_text("utf-8"))
    assert result["killed"] >= 0.99 * (result["mutations"] - result["equivalent"])
    assert result["killed"] + len({name.partition("(")[0] for name in result["survivors"]}) + len(result["in_no_probe"]) == (
        result["mutations"] - result["equivalent"]
    )
    assert result["good_variants"] >= 50 and result["false_alarms"] == 0
    assert len(result["good_engines"]) >= 4
    assert result["acid_seconds"] <= result["acid_seconds_allowed"] == 120
