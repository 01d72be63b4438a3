"""The same inputs give a byte-equal verdict.json, but for times and places: in another folder, in another order, again."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conftest import BASIS, Project
from logitproof.contract.opened import open_contract
from logitproof.reporters.verdict import Verdict
from logitproof.runs.check import check
from logitproof.traces.store import Store

TIMES = ("made_at", "run_id", "seconds")
"""Keys of verdict.json that say when; nothing else may differ."""
BROKEN = """
def score(p):
    raise SystemExit("this engine ends on purpose")
"""


def written(folder: Path, changes: dict[str, Any], texts: list[str], parallel: int) -> str:
    """verdict.json of a project of its own, its folder and its times replaced."""
    folder.mkdir(parents=True)
    project = Project(folder)
    project.suite("suite.yaml", *texts, max_new_tokens=3)
    broken = {"broken": project.engine(BROKEN)} if "broken" in changes.get("candidates", {}) else {}
    contract = project.contract(**{**changes, "candidates": {**changes["candidates"], **broken}})
    report = check(open_contract(contract), Store(folder / "store"), parallel=parallel)
    text = Verdict().render(report, folder).read_text("utf-8")
    assert set(TIMES) <= set(json.loads(text))
    timeless = re.sub(rf'^ "({"|".join(TIMES)})": .*$', r' "\1": 0,', text, flags=re.MULTILINE)
    return timeless.replace(str(folder), "PLACE")


@settings(deadline=None, max_examples=4, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    noise=st.sampled_from([1e-7, 1e-3, 0.3]),
    modes=st.sampled_from([["prefill"], ["prefill", "decode", "greedy"]]),
    texts=st.lists(st.text("abcdefgh ", min_size=1, max_size=12), min_size=1, max_size=3, unique=True),
    parallel=st.integers(1, 3),
)
def test_two_runs_in_two_folders_write_the_same_bytes(
    tmp_path_factory: pytest.TempPathFactory, noise: float, modes: list[str], texts: list[str], parallel: int
) -> None:
    place = tmp_path_factory.mktemp("same")
    candidates = {name: {"engine": "toy", "options": {"noise": size}} for name, size in (("near", 1e-7), ("asked", noise))}
    changes = {"candidates": candidates, "matrix": {"mode": modes}}
    first = written(place / "a", changes, texts, 1)
    assert first == written(place / "another folder" / "deeper", changes, texts, parallel)


def test_a_verdict_of_an_engine_that_dies_is_the_same_bytes_too(tmp_path: Path) -> None:
    changes = {"candidates": {"good": {"engine": "toy", "options": {"noise": 1e-7}}, "broken": {}}}
    first = written(tmp_path / "a", changes, ["hello", "there"], 1)
    assert json.loads(first)["exit_code"] == 3
    assert "ends on purpose" in first
    assert first == written(tmp_path / "some other place", changes, ["hello", "there"], 2)


def test_a_verdict_from_the_store_differs_from_the_first_in_times_and_in_what_was_reused(project: Project) -> None:
    """The traces are the same, so is every number; how many were measured anew is a fact of its own."""
    texts = []
    for name in ("first", "again"):
        (project.folder / name).mkdir()
        texts.append(Verdict().render(project.check(), project.folder / name).read_text("utf-8"))
    first, again = (json.loads(text) for text in texts)
    unequal = {key for key in first.keys() | again.keys() if first.get(key) != again.get(key)}
    assert unequal <= {*TIMES, "from_store"}, unequal


def test_the_order_of_prompts_candidates_gates_and_modes_changes_no_number(project: Project) -> None:
    """Nothing but the order of a list: the traces are found in the store, so that what is left is the harness."""
    texts = ["hello there", "another prompt", "a third, which is longer", "d"]
    candidates = {name: project.toy(noise=size) for name, size in (("near", 1e-7), ("off", 1e-3), ("far", 0.3))}
    gates = [
        {"id": f"{metric}-{statistic}", "metric": metric, "statistic": statistic, "at_most": 1e-6, "basis": BASIS}
        for metric in ("kl_divergence", "rms_delta_logit", "total_variation")
        for statistic in ("mean", "p99", "max")
    ]
    seen = []
    for turn in (1, -1):
        modes = ["prefill", "decode", "greedy"][::turn]
        project.suite("suite.yaml", *texts)
        suite = yaml.safe_load((project.folder / "suite.yaml").read_text())
        project.write("suite.yaml", {**suite, "prompts": suite["prompts"][::turn]})
        report = project.check(candidates=dict([*candidates.items()][::turn]), gates=gates[::turn], matrix={"mode": modes})
        cells = {result.cell.id: (result.status, result.positions, dict(result.counts)) for result in report.verdict.cells}
        bounds = {(gate.cell, gate.id): (gate.status, gate.observed, gate.positions) for gate in report.verdict.gates}
        seen.append((cells, bounds))
    assert seen[0][0].keys() == seen[1][0].keys() and len(seen[0][0]) == 9 and len(seen[0][1]) == 81
    assert seen[0] == seen[1]
