"""docs/scale.md shows what was measured, and the plan is what the simulation makes of it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("simpy", reason="NOT MEASURED: the plan is simulated by simpy")

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

import _page  # noqa: E402
import _scale_plan  # noqa: E402


def result(name: str) -> Any:
    path = ROOT / "benchmarks/results" / f"{name}.json"
    if not path.is_file():
        pytest.skip(f"NOT MEASURED: there is no {path.name} yet; `make bench-{name}` writes it")
    return json.loads(path.read_text("utf-8"))


def test_more_time_a_pass_or_a_slower_wire_is_a_longer_plan() -> None:
    given = _scale_plan.Inputs(3600.0, 5.0, 0.01, 500.0, 500.0, 8_000_000_000, 400.0)
    plan = _scale_plan.plan(given)
    assert plan["cells"] == 1000 and plan["five_nodes_lost"]["begun_again"] == 5 and plan["as_built"]["begun_again"] == 0
    assert _scale_plan.plan(replace(given, pass_s=7200.0))["as_built"]["hours"] > 1.5 * plan["as_built"]["hours"]
    slow = _scale_plan.plan(replace(given, fetch_mb_s=1.0))
    assert slow["as_built"]["hours"] > plan["as_built"]["hours"]
    assert slow["without_locality"]["weights_gb"] >= slow["as_built"]["weights_gb"] > 0
    assert plan["as_built"]["hours"] * _scale_plan.NODES > plan["one_node_h"] * 0.99


@pytest.fixture
def given() -> _scale_plan.Inputs:
    return _scale_plan.inputs(result("ray")["measured"], result("stream"))


def test_the_plan_is_what_the_simulation_makes_of_the_results(given: _scale_plan.Inputs) -> None:
    assert _scale_plan.plan(given) == result("ray")["scale_plan"]
    assert round(given.weights / 1e9, 1) == 8.0


def test_the_page_shows_the_results(module_of: Callable[[Path], Any]) -> None:
    pytest.importorskip("ray", reason="NOT MEASURED: the page is written by benchmarks/machines.py, which imports ray")
    page = (ROOT / "docs/scale.md").read_text("utf-8")
    assert _page.replaced(page, "ray", module_of(ROOT / "benchmarks/machines.py").page(result("ray"))) == page


def test_the_verdict_of_the_run_with_a_killed_node_was_that_of_one_machine() -> None:
    measured = result("ray")
    assert measured["nodes"] >= 2 and measured["killed"] == 1 and measured["verdict_equal"] is True and measured["lost"] == 0
