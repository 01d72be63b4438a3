"""The four teams' folders: contracts at full size pass lint, every requirement has its row, and the page is what ran."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from logitproof.contract.contract import open_contract
from logitproof.files.yaml import read_yaml
from logitproof.lint import lint
from logitproof.runs.check import check

ROOT = Path(__file__).parents[2]
TEAMS = ("two-paths", "quality-harness", "moe-contract", "gguf-nightly")


@pytest.fixture(scope="module")
def runner() -> Any:
    from conftest import load_file

    return load_file(ROOT / "examples" / "run.py")


@pytest.mark.parametrize("team", TEAMS)
def test_the_contract_at_full_size_passes_lint(team: str) -> None:
    assert lint(ROOT / "examples" / team / "full.parity.yaml") == []


@pytest.mark.parametrize("team", TEAMS)
def test_every_requirement_names_steps_that_there_are(runner: Any, team: str) -> None:
    page, _ = read_yaml(ROOT / "examples" / team / "requirements.yaml", runner.Page)
    names = [step.name for step in page.steps]
    assert len(names) == len(set(names)) and {step for row in page.requirements for step in row.by} <= set(names)
    assert all(row.by or row.remains for row in page.requirements), "what nothing proves says what remains"


def test_the_page_is_written_from_what_ran(runner: Any) -> None:
    result = json.loads((ROOT / "benchmarks/results/examples.json").read_text("utf-8"))
    rows = [runner.Row(**row) for row in result["rows"]]
    assert result["requirements"] == len(rows) == 71
    asked = [
        (team, row.id)
        for team in TEAMS
        for row in read_yaml(ROOT / "examples" / team / "requirements.yaml", runner.Page)[0].requirements
    ]
    assert [(row.team, row.id) for row in rows] == asked
    page = runner.page_of(rows, Counter(row.status for row in rows))
    assert (ROOT / "docs/requirements.md").read_text("utf-8") == page


@pytest.mark.parametrize(
    ("proofs", "remains", "status"),
    [
        (["good"], "", "works"),
        (["good"], "something", "in part"),
        (["good", "bad"], "", "does not"),
        ([], "something", "does not"),
        (["good", "missing"], "", "not run"),
    ],
)
def test_a_requirement_works_only_where_every_step_came_out(runner: Any, proofs: list[str], remains: str, status: str) -> None:
    done = {
        "good": runner.Outcome("good", "c", 1.0, ""),
        "bad": runner.Outcome("bad", "c", 1.0, "exit code 1, not 0"),
        "missing": runner.Outcome("missing", "c", 0.0, "not run: x is not there", ran=False),
    }
    row = runner.judged("two-paths", runner.Requirement(id="X", asks="a", by=proofs, remains=remains), done)
    assert row.status == status


@pytest.mark.parametrize(
    ("said", "code", "problem"),
    [("all is well", 0, ""), ("all is well", 1, "exit code 1"), ("nothing", 0, "does not say")],
)
def test_a_step_that_comes_out_otherwise_is_a_problem(runner: Any, tmp_path: Path, said: str, code: int, problem: str) -> None:
    step = runner.Step(name="s", run=["x"], says="all is")
    assert runner._problem(step, code, said, tmp_path).startswith(problem)
    assert bool(problem) == bool(runner._problem(step, code, said, tmp_path))


@pytest.mark.parametrize(
    ("failed", "step"),
    [({"cosine"}, "reference's type"), ({"argmax"}, "flags of the pinned binary"), ({"cosine", "argmax"}, "the engine:")],
)
def test_each_branch_of_the_prediction_says_what_to_do(failed: set[str], step: str) -> None:
    (prediction,) = open_contract(ROOT / "examples/moe-contract/full.parity.yaml").contract.falsification
    (said,) = prediction.next_steps(failed)
    assert step in said


def test_each_branch_comes_out_of_a_verdict(project: Any) -> None:
    """Which axis fails decides what is said, in one contract of two references."""
    basis = "a reason of more than ten letters"
    for failed, scales in (({"cosine"}, (-1.0, 1.0)), ({"argmax"}, (1.0, -1.0)), ({"cosine", "argmax"}, (-1.0, -1.0))):
        gates = [
            {"id": "cosine", "metric": "cosine", "statistic": "min", "at_least": 0.99, "basis": basis},
            {"id": "argmax", "against": "b", "metric": "top1", "statistic": "min", "at_least": 1.0, "basis": basis},
        ]
        branches = ({"cosine"}, {"argmax"}, {"cosine", "argmax"})
        steps = [{"when": sorted(when), "steps": ["-".join(sorted(when))]} for when in branches]
        data = project.data(
            gates=gates, bands=[{"match": 100.0, "wrong": 200.0, "basis": basis}],
            candidates={"mine": project.toy(noise=1e-7)}, error_bar={"vary": []},
            falsification=[{"id": "F", "prediction": "both axes hold", "test": ["cosine", "argmax"], "if_fails": steps}],
        )  # fmt: skip
        del data["reference"]
        data["references"] = {name: project.toy(scale=scale) for name, scale in zip("ab", scales, strict=True)}
        report = check(open_contract(project.write("two.parity.yaml", data)), project.store)
        (falsified,) = report.verdict.falsified
        assert falsified.steps == ("-".join(sorted(failed)),)
