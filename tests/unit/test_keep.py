"""`check --keep`: rows that are not kept take nothing away from what `judge` can say, and everything else says so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from logitproof.cli import main
from logitproof.contract.opened import open_contract
from logitproof.errors import ContractError
from logitproof.runs.kept import FOLDER
from logitproof.runs.workspace import Workspace
from logitproof.traces.trace import Trace, whole

BASIS = "a reason of more than ten letters"
MODES = ["prefill", "greedy"]


def candidates(project: Any) -> dict[str, Any]:
    return {"good": project.toy(noise=1e-7), "noisy": project.toy(noise=2.0)}


def run(project: Any, keep: Any, **changes: Any) -> Workspace:
    changes = {"candidates": candidates(project), "matrix": {"mode": MODES}, **changes}
    space = Workspace(project.folder / f"run-{keep}")
    space.check(open_contract(project.contract(**changes)), keep=keep)
    return space


def judged(space: Workspace, *, again: bool) -> dict[str, Any]:
    """What verdict.json says of cells and gates."""
    if again:
        space.judge_again()
    verdict = json.loads((space.folder / "verdict.json").read_text())
    return {name: verdict[name] for name in ("status", "cells", "gates")}


def rows_on_disk(space: Workspace) -> int:
    return sum(path.stat().st_size for path in (space.folder / "store").rglob("logits.bin"))


@pytest.mark.parametrize("keep", ["all", "failing", "none"])
def test_judging_again_says_the_same_whatever_was_kept(project: Any, keep: str) -> None:
    space = run(project, keep)
    before = judged(space, again=False)
    assert judged(space, again=True) == before
    assert before["status"] == "FAIL" and len(before["cells"]) == 4


def test_the_positions_stay_with_their_best_tokens(project: Any) -> None:
    whole_run, bare_run = (run(project, keep).judge_again() for keep in ("all", "none"))
    first, second = (report.positions("pandas") for report in (whole_run, bare_run))
    assert first.equals(second) and len(first) > 40


def test_rows_of_failing_prompts_stay_and_others_go(project: Any) -> None:
    sizes = {keep: rows_on_disk(run(project, keep)) for keep in ("all", "failing", "none")}
    assert sizes["none"] == 0 < sizes["failing"] < sizes["all"]
    report = Workspace(project.folder / "run-failing").judge_again()
    for cell, rows in report.compared.items():
        for row in rows:
            trace = report.results[row.pair.candidate]
            assert isinstance(trace, Trace)
            assert bool(len(trace.logits)) == (cell.candidate == "noisy")
    assert {cell.cell.candidate for cell in report.verdict.cells if cell.status == "WRONG"} == {"noisy"}


def test_other_bounds_are_judged_without_a_row(project: Any) -> None:
    space = run(project, "none")
    path = project.contract(
        candidates=candidates(project), matrix={"mode": MODES}, bands=[{"match": 1e-12, "wrong": 1e-10, "basis": BASIS}]
    )
    report = space.judge_again(path)
    assert report.verdict.status == "FAIL"
    assert {cell.status for cell in report.verdict.cells if cell.cell.candidate == "good"} == {"WRONG"}


def test_what_needs_rows_is_told(project: Any) -> None:
    space = run(project, "none")
    assert "rows of" in space.note and "were not kept" in space.note and "localize" in space.note
    report = space.judge_again()
    assert "were not kept" in space.note
    trace = next(result for result in report.results.values() if isinstance(result, Trace) and result.kind == "score")
    with pytest.raises(ContractError, match="were not kept") as error:
        whole(trace)
    assert "--keep all" in error.value.remedy


def test_the_next_check_measures_again_what_was_not_kept(project: Any) -> None:
    space = run(project, "none")
    before = judged(space, again=False)
    space.check(open_contract(project.folder / "toys.parity.yaml"))
    assert judged(space, again=False)["cells"] == before["cells"]
    assert rows_on_disk(space) > 0 and not (space.folder / FOLDER).exists()
    assert "were not kept" not in space.note


def test_a_failure_is_judged_as_the_failure_that_it_was(project: Any) -> None:
    crash = "def score(p):\n    raise SystemExit(3)\n"
    space = run(project, "none", candidates={"good": project.toy(noise=1e-7), "dead": project.engine(crash)})
    before = judged(space, again=False)
    assert before["status"] == "ERROR" and judged(space, again=True) == before


@pytest.mark.parametrize("damage", ["gone", "cut", "other cell", "fewer rows"])
def test_a_kept_file_that_is_damaged_is_refused_and_never_judged(project: Any, damage: str) -> None:
    space = run(project, "none", matrix={"mode": ["prefill"]})
    files = sorted((space.folder / FOLDER).glob("*.npz"))
    assert len(files) == 3
    if damage == "gone":
        files[0].unlink()
    elif damage == "cut":
        files[0].write_bytes(files[0].read_bytes()[:-200])
    elif damage == "other cell":
        files[0].write_bytes(files[1].read_bytes())
    else:
        with np.load(files[0]) as archive:
            arrays = {name: archive[name] if name == "about" else archive[name][:-1] for name in archive.files}
        np.savez(files[0], **arrays)
    with pytest.raises(ContractError) as error:
        space.judge_again()
    assert "logitproof check" in error.value.remedy


def test_the_command_line_has_it(project: Any) -> None:
    path, out = project.contract(), project.folder / "run"
    result = CliRunner().invoke(main, ["check", str(path), "--out", str(out), "--keep", "none"])
    assert result.exit_code == 0, result.output
    assert "were not kept" in result.output and rows_on_disk(Workspace(out)) == 0
    again = CliRunner().invoke(main, ["judge", str(out)])
    assert again.exit_code == 0 and "were not kept" in again.output
    assert CliRunner().invoke(main, ["check", str(path), "--keep", "some"]).exit_code == 2


def test_a_run_of_earlier_versions_is_judged_still(project: Any) -> None:
    space = run(project, "all")
    record = json.loads((space.folder / "run.json").read_text())
    del record["dropped"]
    Path(space.folder / "run.json").write_text(json.dumps(record))
    assert judged(space, again=True)["status"] == "FAIL"
