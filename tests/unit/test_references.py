"""Several references in one contract: each gate says which, what both share is computed once, and one verdict comes out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from logitproof.contract.opened import open_contract
from logitproof.errors import ContractError
from logitproof.lint import lint
from logitproof.runs.workspace import Workspace

BASIS = "a reason of more than ten letters"
KL = {"id": "kl", "metric": "kl_divergence", "at_most": 1e-6, "basis": BASIS}
WIDE = [{"match": 100.0, "wrong": 200.0, "basis": BASIS}]


def two(project: Any, *gates: dict[str, Any], far: float = 1e-7, **changes: Any) -> Path:
    """References `hf` and `far`; `far` is so many logits of noise from it."""
    data = project.data(bands=WIDE, gates=list(gates), **changes)
    del data["reference"]
    data["references"] = {"hf": {"engine": "toy"}, "far": {"engine": "toy", "options": {"noise": far, "seed": 5}}}
    return Path(project.write("two.parity.yaml", data))


def statuses(report: Any) -> dict[str, str]:
    return {f"{gate.id} {gate.cell}": gate.status for gate in report.verdict.gates}


def test_each_gate_is_judged_against_its_own_reference(project: Any) -> None:
    gates = [{**KL, "id": "a", "against": "hf"}, {**KL, "id": "b", "against": "far"}, {**KL, "id": "c"}]
    report = Workspace(project.folder / "run").check(open_contract(two(project, *gates, far=1.0)))
    assert report.verdict.exit_code == 1, report.verdict.reason
    assert statuses(report) == {
        "a good/m/original/prefill": "PASS",
        "b good/m/original/prefill@far": "FAIL",
        "c good/m/original/prefill": "PASS",
    }
    assert report.verdict.status == "FAIL"
    first, second = report.as_json()["cells"]
    assert (first["against"], second["against"], second["reference"]) == ("", "far", "far (toy)")


def test_a_failing_line_says_against_which_reference(project: Any) -> None:
    """Two lines of one position of two cells are otherwise the same."""
    gates = [{**KL, "id": "a"}, {**KL, "id": "b", "against": "far"}]
    path = two(project, *gates, far=1.0, candidates={"noisy": project.toy(noise=2.0)})
    report = Workspace(project.folder / "run").check(open_contract(path))
    against = [(line["against"], line["gates"]) for line in report.failing_positions()]
    assert {name for name, _ in against} == {"", "far"}
    assert all(names == (["b"] if name else ["a"]) for name, names in against)


def test_both_axes_hold_in_one_verdict_and_it_is_judged_again(project: Any) -> None:
    gates = [{**KL, "id": "a"}, {**KL, "id": "b", "against": "far", "metric": "top1", "at_most": None, "at_least": 1.0}]
    path = two(project, *gates, matrix={"mode": ["prefill", "greedy"]})
    space = Workspace(project.folder / "run")
    report = space.check(open_contract(path))
    assert report.verdict.status == "PASS", report.verdict.reason
    again = space.judge_again(path)
    assert again.verdict.status == "PASS" and statuses(again) == statuses(report)
    # the continuation is the first reference's, made once, and so is each trace that both comparisons need
    jobs = [json.loads(file.read_text("utf-8")) for file in (space.folder / "store").rglob("trace.json")]
    continued = [job for job in jobs if job["kind"] == "generate" and job["engine"] == "reference"]
    assert len(continued) == 2 and len({job["key"] for job in jobs}) == len(jobs)


def test_a_contract_with_several_references_is_no_fault_of_lint(project: Any) -> None:
    path = two(project, KL, {**KL, "id": "b", "against": "far"}, matrix={"mode": ["prefill", "decode"]})
    assert [finding.code for finding in lint(path)] == []


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"gates": [{**KL, "against": "fra"}]}, "no reference is called 'fra'.*far"),
        ({"reference": {"engine": "toy"}}, "not both"),
        ({"references": {"hf": {"engine": "tyo"}}}, "tyo"),
        ({"references": {"hf": {"engine": "toy"}, "x": {"engine": "toy", "options": {"nois": 1}}}}, "no option 'nois'"),
    ],
)
def test_what_is_wrong_about_references_is_told_with_its_line(project: Any, changes: dict[str, Any], text: str) -> None:
    path = two(project, KL)
    import yaml

    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text("utf-8")), **changes}, sort_keys=False), "utf-8")
    with pytest.raises(ContractError, match=f"two.parity.yaml.*{text}"):
        open_contract(path)


def test_files_that_it_rests_on_stand_beside_references_by_name(project: Any) -> None:
    project.write("mirror.md", "changed")
    mirror = {"id": "spec", "source": "engine repository", "sha256": "0" * 64, "mirror": "mirror.md"}
    path = two(project, KL, rests_on=[mirror], matrix={"mode": ["prefill", "decode"]})
    assert [finding.code for finding in lint(path)] == ["LP004", "LP065"], "and the second reference is compared with nothing"
