"""Every run is in the history, a run folder is no other contract's, and a bad commit is found by running the contract."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from logitproof.cli import main
from logitproof.contract.opened import open_contract
from logitproof.documents import console
from logitproof.errors import ContractError
from logitproof.runs import bisect as bisecting
from logitproof.runs.history_text import compared, trend
from logitproof.runs.ledger import Ledger, commit_of, open_ledger
from logitproof.runs.recorded import changes, recorded_in
from logitproof.runs.workspace import Workspace

GOOD: dict[str, Any] = {"good": {"engine": "toy", "options": {"noise": 1e-7}}}
BAD: dict[str, Any] = {"good": {"engine": "toy", "options": {"noise": 1.0}}}


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    monkeypatch.setenv("LOGITPROOF_HISTORY", f"sqlite:///{tmp_path / 'own.sqlite3'}")
    return open_ledger()


def run(project: Any, folder: str = "run", **changed: Any) -> Workspace:
    space = Workspace(project.folder / folder)
    space.check(open_contract(project.contract(**changed)))
    assert space.note == ""
    return space


def cli(*words: str, code: int = 0) -> Result:
    done = CliRunner().invoke(main, ["history", *words])
    assert done.exit_code == code, done.output
    return done


def test_a_run_is_recorded_with_every_gate_and_cell(project: Any, ledger: Ledger) -> None:
    space = run(project, candidates=GOOD)
    verdict = json.loads((space.folder / "verdict.json").read_text("utf-8"))
    (kept,) = ledger.runs("toys")
    assert (kept.run_id, kept.status, kept.made_at) == (verdict["run_id"], "PASS", verdict["made_at"])
    assert kept.gates["kl on good/m/original/prefill"]["observed"] == verdict["gates"][0]["observed"]
    assert kept.cells["good/m/original/prefill"]["status"] == "MATCH" and "m original" in kept.pins
    assert kept == recorded_in(space.folder)
    assert ledger.contracts() == ["toys"] and ledger.live() == []


def test_a_run_that_is_judged_again_stays_one_run(project: Any, ledger: Ledger) -> None:
    run(project, candidates=GOOD).judge_again()
    assert len(ledger.runs()) == 1


def test_the_last_green_run_is_there_to_compare_with(project: Any, ledger: Ledger) -> None:
    green = run(project, candidates=GOOD)
    first = recorded_in(green.folder)
    red = recorded_in(run(project, candidates=BAD).folder)
    assert red.status == "FAIL" and recorded_in(green.folder / "last-green").run_id == first.run_id
    kept = ledger.last_green("toys", before=red.run_id)
    assert kept is not None and kept.run_id == first.run_id
    told = cli("compare", first.run_id, str(green.folder), code=1).output
    assert "PASS" in told and "FAIL" in told and "kl on good/m/original/prefill" in told
    assert f"logitproof history compare {first.run_id} {red.run_id}" in cli("toys").output
    assert cli("compare", str(green.folder), str(green.folder)).output.count("SAME") == 1


def test_a_run_folder_never_takes_the_place_of_another_contracts(project: Any, ledger: Ledger) -> None:
    space = run(project, candidates=GOOD)
    before = (space.folder / "verdict.json").read_bytes()
    with pytest.raises(ContractError, match=r"holds a run of the contract 'toys'.*\n.*name another folder with --out"):
        run(project, contract="others", candidates=GOOD)
    assert (space.folder / "verdict.json").read_bytes() == before


def test_no_run_fails_for_its_history(project: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGITPROOF_HISTORY", "nosuch://x")
    space = Workspace(project.folder / "run")
    assert space.check(open_contract(project.contract(candidates=GOOD))).verdict.status == "PASS"
    assert "not in the history" in space.note
    monkeypatch.setenv("LOGITPROOF_HISTORY", "off")
    assert space.judge_again().verdict.status == "PASS" and space.note == ""
    with pytest.raises(ContractError, match="turned off"):
        open_ledger()


def test_reading_a_history_that_is_not_there_makes_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "nowhere/history.sqlite3"
    monkeypatch.setenv("LOGITPROOF_HISTORY", f"sqlite:///{place}")
    shown = CliRunner().invoke(main, ["history", "show"])
    assert shown.exit_code == 0 and not place.parent.exists(), shown.output
    assert CliRunner().invoke(main, ["history", "compare", "aa", "bb"]).exit_code == 2 and not place.parent.exists()
    monkeypatch.setenv("LOGITPROOF_HISTORY", "no URL")
    assert CliRunner().invoke(main, ["history", "show"]).exit_code == 2


def test_progress_is_seen_while_a_run_goes_on(project: Any, ledger: Ledger) -> None:
    seen: list[int] = []
    space = Workspace(project.folder / "run")
    space.check(open_contract(project.contract(candidates=GOOD)), on_progress=lambda progress: seen.append(len(ledger.live())))
    assert max(seen) == 1 and ledger.live() == []


def test_what_changed_is_said_by_kind(project: Any, ledger: Ledger) -> None:
    before = recorded_in(run(project, candidates=GOOD).folder)
    after = replace(before, status="FAIL", versions={**before.versions, "python": "9"}, pins={}, commit="abc")
    kinds = {(change.what, change.name) for change in changes(before, after)}
    assert {("run", "status"), ("run", "commit"), ("version", "python"), ("pin", "m original")} <= kinds
    assert changes(before, before) == [] and "9" in console.text(compared(before, after))
    assert "NOTHING" in console.text(trend([], "nothing"))


@pytest.mark.parametrize(("words", "told"), [(["nosuch", "nosuch"], "no run is recorded"), ([".", "."], "verdict.json")])
def test_a_run_that_is_not_there_is_one_clear_error(ledger: Ledger, words: list[str], told: str) -> None:
    assert told in cli("compare", *words, code=2).output


def git(folder: Path, *words: str) -> str:
    named = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "init.defaultBranch=main"]
    return subprocess.run(["git", "-C", str(folder), *named, *words], check=True, capture_output=True, text=True).stdout.strip()


def test_the_first_bad_commit_of_an_engine_is_found(project: Any, ledger: Ledger) -> None:
    """Six commits: the third cannot be built, the fifth shifts a row; the repository is left as it was."""
    candidate, reference = project.engine(), project.engine(name="reference.py")
    candidate["may_be_exact"] = "the right commits are the reference's own program"
    contract = project.contract(reference=reference, candidates={"mine": candidate})
    right = (project.folder / "fake.py").read_text("utf-8")
    repository = project.folder / "engine"
    repository.mkdir()
    git(repository, "init", "-q")
    commits = []
    for number in range(6):
        source = right if number < 4 else right.replace("* 31", "* 30")
        (repository / "engine.py").write_text("broken" if number == 2 else f"{source}\n# {number}\n", "utf-8")
        git(repository, "add", "-A")
        git(repository, "commit", "-q", "-m", f"change {number}")
        commits.append(git(repository, "rev-parse", "HEAD"))
    target = repr(str(project.folder / "fake.py"))
    copy = f"import sys; t = open('engine.py').read(); t == 'broken' and sys.exit('no'); open({target}, 'w').write(t)"
    words = [str(contract), "--good", commits[0], "--bad", commits[5], "--repo", str(repository)]
    words += ["--out", str(project.folder / "b")]
    done = cli("bisect", *words, "--json", "--", sys.executable, "-c", copy)
    found = json.loads(done.stdout)
    assert (found["first"], found["subject"]) == (commits[4], "change 4")
    assert git(repository, "rev-parse", "HEAD") == commits[5] and git(repository, "symbolic-ref", "HEAD") == "refs/heads/main"
    assert commit_of(repository) == commits[5]
    (repository / "engine.py").write_text("changed", "utf-8")
    with pytest.raises(ContractError, match="files that were changed"):
        bisecting.bisect(contract, repository, (commits[0], commits[5]), ["true"], out=project.folder / "b", say=print)
    assert commit_of(repository) == f"{commits[5]}+"


def test_commits_that_cannot_be_built_are_said_to_hide_it(project: Any, ledger: Ledger) -> None:
    repository = project.folder / "engine"
    repository.mkdir()
    git(repository, "init", "-q")
    for number in range(3):
        git(repository, "commit", "-q", "--allow-empty", "-m", f"change {number}")
    contract = project.contract(candidates=GOOD)
    words = [str(contract), "--good", "HEAD~2", "--bad", "HEAD", "--repo", str(repository), "--out", str(project.folder / "b")]
    assert "NOT FOUND" in cli("bisect", *words, "--", "false", code=3).output
