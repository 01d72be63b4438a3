"""A gate that no engine could break is refused before anything runs, and when a run is judged again."""

from __future__ import annotations

from typing import Any

import pytest

from conftest import BASIS
from logitproof import catalog
from logitproof.contract.inert import refuse_inert
from logitproof.contract.opened import open_contract
from logitproof.errors import ContractError
from logitproof.lint import lint
from logitproof.runs.workspace import Workspace

INERT = [
    ("top1", {"at_least": 0.0}),
    ("top1", {"at_least": -1.0}),
    ("cosine", {"at_least": -1.0}),
    ("kl_divergence", {"at_least": 0.0}),
    ("js_divergence", {"at_most": 0.6931472}),
    ("total_variation", {"at_most": 1.0}),
    ("delta_p", {"at_most": 1.0}),
    ("margin", {"at_least": 0.5}),
    ("margin_probability", {"at_most": 0.5}),
    ("greedy_match_10", {"at_least": 0.0}),
]


def gate(metric: str, bound: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"id": "g", "metric": metric, "basis": BASIS, **bound}]


@pytest.mark.parametrize(("metric", "bound"), INERT)
def test_a_gate_that_can_never_fail_is_refused_with_its_line(project: Any, metric: str, bound: dict[str, float]) -> None:
    with pytest.raises(ContractError, match=r"toys\.parity\.yaml:\d+: gates\.0: the gate 'g' can never fail") as raised:
        project.check(gates=gate(metric, bound), matrix={"mode": ["prefill", "greedy"]})
    assert metric in str(raised.value) and raised.value.remedy


def test_a_run_is_not_judged_by_a_gate_that_can_never_fail(project: Any) -> None:
    run = Workspace(project.folder / "run")
    run.check(open_contract(project.contract()))
    with pytest.raises(ContractError, match="can never fail"):
        run.judge_again(project.contract(gates=gate("top1", {"at_least": 0.0})))


@pytest.mark.parametrize(
    ("metric", "bound"),
    [
        ("top1", {"at_least": 1e-9}),
        ("top1", {"at_most": 0.5}),
        ("cosine", {"at_least": -0.999}),
        ("kl_divergence", {"at_most": 1e9}),
        ("js_divergence", {"at_most": 0.69}),
        ("logit", {"at_least": -5.0}),
        ("kl_divergence", {"at_most": "calibrated"}),
        ("top1", {"at_least": "calibrated"}),
    ],
)
def test_a_gate_that_something_can_break_is_taken(project: Any, metric: str, bound: dict[str, Any]) -> None:
    refuse_inert(open_contract(project.contract(gates=gate(metric, bound))))


def test_every_metric_of_a_range_is_refused_at_its_ends(project: Any) -> None:
    for name in catalog.entries("metrics"):
        kind = catalog.load("metrics", name)
        for side, end in (("at_most", kind.greatest), ("at_least", kind.least)):
            if abs(end) < float("inf"):
                opened = open_contract(project.contract(gates=gate(name, {side: end})))
                with pytest.raises(ContractError, match="can never fail"):
                    refuse_inert(opened)


def test_every_such_gate_is_told_at_once_and_lint_tells_the_same(project: Any) -> None:
    gates = [{"id": f"g{number}", "metric": metric, "basis": BASIS, **bound} for number, (metric, bound) in enumerate(INERT)]
    path = project.contract(gates=gates, matrix={"mode": ["prefill", "greedy"]})
    with pytest.raises(ContractError) as raised:
        refuse_inert(open_contract(path))
    assert len(raised.value.others) == len(INERT) - 1
    told = [finding.text for finding in lint(path) if finding.code == "LP012"]
    assert [text.partition("'")[2].partition("'")[0] for text in told] == [gate["id"] for gate in gates]
