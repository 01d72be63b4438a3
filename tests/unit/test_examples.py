"""The four teams' folders: contracts at full size pass lint, every requirement has its row, and the page is what ran."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from logitproof.contract.opened import open_contract
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


@pytest.fixture
def checkout(runner: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout of one team, whose steps count how often they are run."""
    for place in ("src", "zoo", "examples/two-paths"):
        (tmp_path / place).mkdir(parents=True)
    monkeypatch.setattr(runner, "ROOT", tmp_path)
    monkeypatch.setattr(runner, "OUT", tmp_path / "runs")
    (tmp_path / "src" / "mine.py").write_text("one = 1", "utf-8")
    return tmp_path


def counted(runner: Any, out: Path, *names: str, says: str = "", steps: dict[str, Any] | None = None) -> list[int]:
    """How often each step has run after one more run of all; a step appends a letter to a file of its own."""
    made = [
        runner.Step(name=name, run=["sh", "-c", f"printf x >> OUT/{name}; echo {name}"], **(steps or {}).get(name, {}))
        for name in names
    ]
    runner.run_team("two-paths", made)
    return [len((out / "two-paths" / name).read_text("utf-8")) for name in names]


def test_a_run_goes_on_where_it_stopped_and_runs_again_what_has_changed(runner: Any, checkout: Path) -> None:
    out = checkout / "runs"
    assert counted(runner, out, "a", "b") == [1, 1]
    assert counted(runner, out, "a", "b", "c") == [1, 1, 1], "only the new step"
    changed = {"b": {"says": "b"}}
    assert counted(runner, out, "a", "b", "c", steps=changed) == [1, 2, 2], "a step that was changed, and all behind it"
    (checkout / "src" / "mine.py").write_text("one = 2", "utf-8")
    assert counted(runner, out, "a", "b", "c", steps=changed) == [2, 3, 3], "the package has changed"
    (checkout / "examples" / "two-paths" / "x.yaml").write_text("a: 1", "utf-8")
    assert counted(runner, out, "a", "b", "c", steps=changed) == [3, 4, 4], "the folder has changed"
    assert counted(runner, out, "a", "b", "c", steps=changed) == [3, 4, 4]


def test_what_came_out_wrong_is_run_again_with_all_behind_it(runner: Any, checkout: Path) -> None:
    out, wrong = checkout / "runs", {"b": {"says": "nobody says this"}}
    assert counted(runner, out, "a", "b", "c", steps=wrong) == [1, 1, 1]
    assert counted(runner, out, "a", "b", "c", steps=wrong) == [1, 2, 2]
    assert runner.kept("two-paths")["b"].problem and not runner.kept("two-paths")["c"].problem


def test_what_a_step_needs_runs_it_once_it_is_there(runner: Any, checkout: Path) -> None:
    needs = {"b": {"needs": "weights.gguf"}}
    steps = [runner.Step(name=name, run=["true"], **needs.get(name, {})) for name in ("a", "b")]
    assert [outcome.ran for outcome in runner.run_team("two-paths", steps)] == [True, False]
    (checkout / "weights.gguf").write_text("x", "utf-8")
    assert [outcome.ran for outcome in runner.run_team("two-paths", steps)] == [True, True]


def test_a_row_runs_the_steps_up_to_its_last(runner: Any) -> None:
    page, _ = read_yaml(ROOT / "examples/moe-contract/requirements.yaml", runner.Page)
    names = [step.name for step in runner._steps_of(page, "M18")]
    assert names[-1] == "router-lines" and names == [step.name for step in page.steps][: len(names)]
    assert runner._steps_of(page, "") == page.steps
    with pytest.raises(SystemExit, match="no requirement 'M99'"):
        runner._steps_of(page, "M99")
    with pytest.raises(SystemExit, match="no team 'nobody'"):
        runner.main(["nobody"])


def test_a_gate_of_a_control_says_nothing_of_a_step(runner: Any, tmp_path: Path) -> None:
    """A control fails on purpose."""
    gates = [{"id": "kl", "status": "PASS", "control": False}, {"id": "kl", "status": "FAIL", "control": True}]
    (tmp_path / "verdict.json").write_text(json.dumps({"gates": gates}), "utf-8")
    for wanted, problem in (("PASS", ""), ("FAIL", "the gate kl is PASS, not FAIL")):
        assert runner._problem(runner.Step(name="s", run=["x"], gates={"kl": wanted}), 0, "", tmp_path) == problem
    assert "is not there" in runner._problem(runner.Step(name="s", run=["x"], gates={"b": "PASS"}), 0, "", tmp_path)


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


MADE = {"../../zoo/gguf": "make zoo", ".cache/llama-tools": "make llama-tools", ".cache/real": "make real"}


@pytest.mark.parametrize("team", TEAMS)
def test_a_readme_says_what_a_repository_copies_and_that_is_all_that_it_needs(team: str, tmp_path: Path) -> None:
    page = " ".join((ROOT / "examples" / team / "README.md").read_text("utf-8").split())
    (sentence,) = re.findall(r"(`full\.parity\.yaml`[^.]*(?:\.[a-z][^.]*)*?) (?:is|are) for a repository of your own", page)
    for name in re.findall(r"`([^`]+)`", sentence):
        source = ROOT / "examples" / team / name
        copy = shutil.copytree if source.is_dir() else shutil.copy
        copy(source, tmp_path / name)
    findings = [finding for finding in lint(tmp_path / "full.parity.yaml") if finding.code not in ("LP030", "LP080")]
    assert findings == [], "a copy lints as the folder here does"


@pytest.mark.parametrize("team", TEAMS)
def test_a_readme_says_how_to_make_what_its_contracts_read(team: str) -> None:
    folder = ROOT / "examples" / team
    page = " ".join((folder / "README.md").read_text("utf-8").split())
    contracts = {path.name: path.read_text("utf-8") for path in folder.rglob("*.yaml") if path.name != "requirements.yaml"}
    for place, target in {**MADE, f"../../runs/examples/{team}": f"runs/examples/{team}"}.items():
        readers = [name for name, text in contracts.items() if place in text]
        assert not readers or target in page, f"{readers} read {place}: say `{target}`"
    for block in re.findall(r"(?:^    .+\n)+", (folder / "README.md").read_text("utf-8"), re.MULTILINE):
        for name in re.findall(r"(?<![\w/$.])([\w.-]+\.(?:yaml|py|sh))\b", block):
            assert (folder / name).is_file(), f"{name} of the commands is not in {team}"


PROGRAMS = sorted(path.relative_to(ROOT) for team in TEAMS for path in (ROOT / "examples" / team).glob("*.py"))


WRONGLY: list[list[str]] = [[], ["gone/away/nowhere"], ["a", "b", "c"]]
CALLS = [(program, words) for program in PROGRAMS for words in WRONGLY if program.name != "make.py" or len(words) != 1]
"""`make.py` makes the folder that it is given."""


@pytest.mark.parametrize(("program", "words"), CALLS, ids=str)
def test_a_program_of_a_folder_that_is_called_wrongly_says_how(program: Path, words: list[str], tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, str(ROOT / program), *words], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode and "Traceback" not in done.stderr, done.stderr
    assert "usage" in done.stderr or "is not there" in done.stderr
