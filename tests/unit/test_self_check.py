"""The reference's own error bar, and what a witness says of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from logitproof.contract.opened import open_contract
from logitproof.errors import ContractError
from logitproof.jobs.plan import open_models, plan
from logitproof.protocol.messages import HelloResult
from logitproof.report.report import Report
from logitproof.runs.workspace import Workspace
from logitproof.runs.yardsticks import with_yardsticks
from logitproof.verdict.gates import GateVerdict

BASIS = "a reason of more than ten letters"
WIDE = [{"match": 50.0, "wrong": 90.0, "basis": BASIS}]


def gate(**bound: Any) -> list[dict[str, Any]]:
    return [{"id": "g", "metric": "kl_divergence", "statistic": "max", "basis": BASIS, **bound}]


def noisy_reference(**options: Any) -> dict[str, Any]:
    return {"engine": "toy", "options": {"decode_noise": 0.1, **options}}


def only_gate(report: Report) -> GateVerdict:
    (found,) = report.verdict.gates
    return found


def test_the_references_own_error_stands_beside_every_gate(project: Any) -> None:
    found = only_gate(project.check(reference=noisy_reference(), gates=gate(at_most=1.0), bands=WIDE))
    assert found.status == "PASS"
    assert found.reference_error is not None and 0 < found.reference_error < 1.0
    assert found.reference_run == "decode"


def test_a_gate_tighter_than_the_references_own_error_is_refused_with_both_numbers(project: Any) -> None:
    report = project.check(reference=noisy_reference(), gates=gate(at_most=1e-9), bands=WIDE)
    found = only_gate(report)
    assert found.status == "ERROR"
    assert "1e-09" in found.reason and "decode" in found.reason
    assert [cell.status for cell in report.verdict.cells] == ["SET-UP ERROR"]
    assert (report.verdict.status, report.verdict.exit_code) == ("ERROR", 2)


def test_a_gate_that_wants_at_least_more_than_the_reference_keeps_is_refused(project: Any) -> None:
    noisy = noisy_reference(decode_noise=20.0)
    gates = [{"id": "g", "metric": "top1", "statistic": "mean", "at_least": 0.999, "basis": BASIS}]
    found = only_gate(project.check(reference=noisy, gates=gates, bands=WIDE))
    assert found.status == "ERROR" and found.reference_error is not None and found.reference_error < 0.999


def test_a_reference_that_agrees_with_itself_refuses_nothing(project: Any) -> None:
    found = only_gate(project.check(gates=gate(at_most=1e-9)))
    assert (found.status, found.reference_error) == ("PASS", 0.0)


def test_a_gate_that_really_fails_is_not_refused(project: Any) -> None:
    report = project.check(candidates={"bad": project.toy(noise=0.5)})
    assert only_gate(report).status == "FAIL"
    assert report.verdict.exit_code == 1


def test_an_error_bar_that_varies_nothing_runs_nothing_and_claims_nothing(project: Any) -> None:
    report = project.check(reference=noisy_reference(), gates=gate(at_most=1e-9), error_bar={"vary": []})
    assert only_gate(report).reference_error is None
    assert report.facts["reference_error"] == []


def test_another_build_of_the_reference_is_part_of_its_error(project: Any) -> None:
    builds = {"second": project.toy(noise=0.1, seed=7)}
    report = project.check(gates=gate(at_most=1e-9), bands=WIDE, error_bar={"builds": builds})
    assert only_gate(report).reference_run == "build second"
    assert report.verdict.exit_code == 2


def test_a_build_that_dies_is_named_and_stops_nothing(project: Any) -> None:
    report = project.check(error_bar={"builds": {"dead": project.toy(fault="crash")}})
    rows = {row["run"]: row for row in report.facts["reference_error"]}
    assert "ended during `score" in rows["build dead"]["failure"] and rows["build dead"]["metrics"] == {}
    assert rows["decode"]["failure"] == ""
    assert report.verdict.status == "PASS"


def test_an_option_that_a_build_refuses_is_named_with_its_line(project: Any) -> None:
    with pytest.raises(ContractError, match=r"builds\.worse"):
        project.check(error_bar={"builds": {"worse": project.toy(seed=-1)}})


def test_the_error_bar_may_rest_on_some_of_the_prompts(project: Any) -> None:
    report = project.check(error_bar={"prompts": 1})
    (row,) = report.facts["reference_error"]
    assert row["metrics"]["kl_divergence"]["prompts"] == 1
    assert sum(cell.positions for cell in report.verdict.cells) > row["metrics"]["kl_divergence"]["count"]


def test_free_running_gates_are_measured_on_free_runs_of_another_build(project: Any) -> None:
    gates = [{"id": "g", "metric": "greedy_match_10", "at_least": 0.99, "basis": BASIS}]
    builds = {"second": project.toy(noise=50.0)}
    report = project.check(gates=gates, bands=WIDE, matrix={"mode": ["greedy"]}, error_bar={"builds": builds})
    found = only_gate(report)
    assert found.reference_run == "build second" and found.reference_error is not None and found.reference_error < 0.99
    assert found.status == "ERROR"


HELLO = HelloResult(protocol=1, engine="transformers", modes=["prefill", "decode"], generate=True)


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({}, {"threads 1", "attention sdpa", "decode"}),
        ({"threads": 1}, {"threads 2", "attention sdpa", "decode"}),
        ({"attention": "sdpa", "threads": 4}, {"threads 1", "attention eager", "decode"}),
    ],
)
def test_settings_that_should_not_matter_are_those_that_the_engine_has(
    project: Any, options: dict[str, Any], names: set[str]
) -> None:
    opened = open_contract(project.contract(reference={"engine": "transformers", "options": options}))
    hellos = {"reference": HELLO, "good": HELLO}
    planned = plan(opened, hellos, open_models(opened))
    with_more = with_yardsticks(opened, planned, hellos)
    assert {cell.candidate.removeprefix("reference/") for cell in with_more.yardsticks} == names
    known = {job.key for job in with_more.jobs}
    assert {pair.candidate for cell in with_more.yardsticks for pair in cell.pairs} <= known
    assert len(with_more.jobs) == len(planned.jobs) + 2 * len(names)
    assert not {cell.id for cell in with_more.yardsticks} & {cell.id for cell in with_more.cells}


def witnessed(project: Any, **changes: Any) -> str:
    (cell,) = project.check(**{"bands": WIDE, "gates": gate(at_most=90.0), "error_bar": {"vary": []}, **changes}).verdict.cells
    return cell.witness


def test_a_witness_that_is_far_from_the_reference_says_that_the_reference_proves_little(project: Any) -> None:
    said = witnessed(project, witness=project.toy(noise=1.0, seed=3), candidates={"good": project.toy(noise=0.1)})
    assert said.startswith("reference and witness disagree more than the candidate does with either") or "suspect" not in said
    assert "mean KL in nats" in said


def test_a_candidate_that_agrees_with_the_witness_alone_makes_the_reference_suspect(project: Any) -> None:
    said = witnessed(
        project,
        reference={"engine": "toy", "options": {"scale": 1.5}},
        witness=project.toy(),
        candidates={"good": project.toy(noise=1e-6)},
    )
    assert "suspect the reference" in said


def test_a_candidate_that_is_alone_is_said_to_be(project: Any) -> None:
    said = witnessed(project, witness=project.toy(noise=1e-6), candidates={"bad": project.toy(noise=1.0)})
    assert said.startswith("reference and witness agree, the candidate stands apart")


@pytest.mark.parametrize("noise", [0.0, 1e-9, 1e-8, 1e-7])
def test_inside_the_noise_a_witness_suspects_nobody(project: Any, noise: float) -> None:
    """Float32 engines differ by 1e-13 nats; which of three such numbers is largest says nothing about who is right."""
    for seed in (1, 2, 3):
        said = witnessed(
            project,
            witness=project.toy(noise=noise, seed=seed),
            candidates={"good": project.toy(noise=max(noise, 1e-8), seed=7)},
        )
        assert said.startswith("reference, witness and candidate agree within rounding"), said


def test_a_witness_that_is_alone_is_said_to_be(project: Any) -> None:
    said = witnessed(project, witness=project.toy(scale=1.5), candidates={"good": project.toy(noise=1e-6)})
    assert said.startswith("reference and candidate agree, the witness stands apart")


def test_a_witness_that_dies_says_nothing_and_changes_nothing(project: Any) -> None:
    report = project.check(witness=project.toy(fault="crash"))
    assert [cell.witness for cell in report.verdict.cells] == ["the witness could not be asked"]
    assert report.verdict.status == "PASS"


def test_a_witness_without_its_weights_is_refused(project: Any) -> None:
    with pytest.raises(ContractError, match="Q8_0"):
        project.check(witness={**project.toy(), "weights": "Q8_0"})


def test_a_run_is_judged_again_with_the_same_errors_and_findings(project: Any, tmp_path: Path) -> None:
    space = Workspace(tmp_path / "run")
    hot = {"engine": "command", "options": {"argv": ["false", "--temp", "0.7"]}}
    contract = project.contract(
        reference=noisy_reference(),
        gates=gate(at_most=1.0),
        bands=WIDE,
        candidates={"good": project.toy(noise=1e-7), "hot": hot},
        witness=project.toy(noise=1e-3),
    )
    first, again = (
        json.loads(json.dumps(report.as_json())) for report in (space.check(open_contract(contract)), space.judge_again())
    )
    for name in ("cells", "gates", "preflight", "reference_error", "status", "exit_code"):
        assert again[name] == first[name]
    assert {cell["status"] for cell in again["cells"]} == {"MATCH", "SET-UP ERROR"}
    assert any(cell["witness"] for cell in again["cells"])
