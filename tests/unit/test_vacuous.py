"""Every way the field lets nothing pass, each of which must end in ERROR or FAIL here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from logitproof.bands.band import Band
from logitproof.comparison.summary import summarize
from logitproof.contract.contract import Gate
from logitproof.contract.opened import open_contract
from logitproof.contract.suite import Suite
from logitproof.errors import ContractError, EngineError
from logitproof.jobs.plan import open_models, plan
from logitproof.jobs.worker import Spec
from logitproof.jobs.workers import Workers
from logitproof.verdict.judge import judge

BASIS = "a reason of more than ten letters"
NAN = float("nan")


def test_a_healthy_engine_passes(project: Any) -> None:
    report = project.check()
    assert (report.verdict.status, report.verdict.exit_code) == ("PASS", 0)
    assert [cell.status for cell in report.verdict.cells] == ["MATCH"]


def test_nothing_compared_never_passes(project: Any) -> None:
    verdict = judge([], open_contract(project.contract()).contract)
    assert (verdict.status, verdict.exit_code) == ("ERROR", 3)


@pytest.mark.parametrize("bound", [{"at_most": 1.0}, {"at_least": 0.0}, {"at_least": -1e300}, {"at_most": 1e300}])
def test_nan_never_passes_a_gate(bound: dict[str, float]) -> None:
    assert not Gate(id="g", metric="kl_divergence", basis=BASIS, **bound).holds(NAN)


def test_nan_never_passes_a_band() -> None:
    band = Band(1.0, 2.0, 0.0, BASIS)
    assert band.status(NAN, True, 0.0) == "NOT-MEASURED"
    assert band.status(0.0, True, NAN) == "NOT-MEASURED"
    assert band.status(NAN, False, 0.5 * band.tie_margin) == "NOT-MEASURED"
    assert band.status(NAN, False, 2.0 * band.tie_margin) == "WRONG"
    assert band.status(float("inf"), True, 0.0) == "WRONG"


def test_an_empty_suite_is_refused() -> None:
    with pytest.raises(ValidationError):
        Suite(suite="empty", prompts=[])


def test_an_empty_suite_file_is_refused_with_its_line(project: Any) -> None:
    project.write("suite.yaml", "suite: none\nprompts: []\n")
    with pytest.raises(ContractError, match=r"suite\.yaml:2"):
        project.check()


@pytest.mark.parametrize("key", ["gates", "bands", "candidates", "models", "suites"])
def test_an_empty_list_in_a_contract_is_refused(project: Any, key: str) -> None:
    with pytest.raises(ContractError, match=key):
        project.check(**{key: [] if key in ("gates", "bands", "suites") else {}})


@pytest.mark.parametrize("matrix", [{"mode": []}, {"quantization": []}, {"model": []}])
def test_an_empty_axis_is_refused(project: Any, matrix: dict[str, list[str]]) -> None:
    with pytest.raises(ContractError):
        project.check(matrix=matrix)


def test_a_gate_that_measures_nothing_is_an_error(project: Any) -> None:
    gates = [
        {"id": "kl", "metric": "kl_divergence", "at_most": 1.0, "basis": BASIS},
        {"id": "far", "metric": "kl_divergence", "scope": "position 999", "at_most": 1.0, "basis": BASIS},
    ]
    verdict = project.check(gates=gates).verdict
    assert [gate.status for gate in verdict.gates] == ["PASS", "ERROR"]
    assert verdict.status == "ERROR" and verdict.exit_code != 0


def test_a_gate_on_a_metric_that_no_cell_has_is_an_error(project: Any) -> None:
    gates = [
        {"id": "kl", "metric": "kl_divergence", "at_most": 1.0, "basis": BASIS},
        {"id": "greedy", "metric": "greedy_match_10", "at_least": 1.0, "basis": BASIS},
    ]
    verdict = project.check(gates=gates).verdict
    assert verdict.status == "ERROR" and verdict.exit_code != 0


@pytest.mark.parametrize("where", [{"mode": "greedy"}, {"mode": ["decode", "self"]}])
def test_a_gate_that_selects_no_cell_of_the_matrix_is_refused(project: Any, where: dict[str, Any]) -> None:
    """Such a gate can never fail; a run in which it is only passed over would look as if it held."""
    gates = [
        {"id": "kl", "metric": "kl_divergence", "at_most": 1.0, "basis": BASIS},
        {"id": "never", "metric": "kl_divergence", "at_most": 1e-30, "basis": BASIS, "where": where},
    ]
    with pytest.raises(ContractError, match="never.*selects no cell"):
        project.check(gates=gates)


def test_a_candidate_that_has_no_cell_is_refused(project: Any) -> None:
    """A control that never runs is caught by nobody."""
    control = {**project.toy(noise=1.0), "only": {"model": "other"}, "expect": "WRONG"}
    with pytest.raises(ContractError, match="planted.*no cell"):
        project.check(
            candidates={"good": project.toy(noise=1e-7), "planted": control},
            models={"m": {"original": "toy.json"}, "other": {"original": "toy.json"}},
            matrix={"model": ["m"], "mode": ["prefill"]},
        )


def test_a_gate_outside_of_only_is_not_measured_and_does_not_stop_the_rest(project: Any) -> None:
    gates = [
        {"id": "kl", "metric": "kl_divergence", "at_most": 1.0, "basis": BASIS, "where": {"mode": "prefill"}},
        {"id": "decode", "metric": "kl_divergence", "at_most": 1.0, "basis": BASIS, "where": {"mode": "decode"}},
    ]
    report = project.check(only="*/prefill", gates=gates, matrix={"mode": ["prefill", "decode"]})
    assert [gate.status for gate in report.verdict.gates] == ["PASS", "NOT-MEASURED"]
    assert report.verdict.status == "PASS"
    assert [one.cell for one in report.verdict.unmeasured] == ["good/m/original/decode"]


def test_only_unmeasured_gates_never_pass(project: Any) -> None:
    gates = [{"id": "decode", "metric": "kl_divergence", "at_most": 1.0, "basis": BASIS, "where": {"mode": "decode"}}]
    report = project.check(only="*/prefill", gates=gates, matrix={"mode": ["prefill", "decode"]})
    assert (report.verdict.status, report.verdict.exit_code) == ("ERROR", 3)


def test_a_cell_without_a_band_is_not_measured_and_never_passes(project: Any) -> None:
    report = project.check(bands=[{"match": 1.0, "wrong": 1.0, "basis": BASIS, "where": {"mode": "decode"}}])
    assert [cell.status for cell in report.verdict.cells] == ["NOT-MEASURED"]
    assert report.verdict.status == "ERROR"


def test_one_failed_prompt_makes_the_cell_an_error_and_no_mean_hides_it(project: Any) -> None:
    """A mean over the prompts that survived is not the mean."""
    project.suite("suite.yaml", "one", "two", "three")
    report = project.check(candidates={"bad": project.toy(fault="nan", fault_at=2, noise=1e-7)})
    (cell,) = report.verdict.cells
    assert [prompt.status for prompt in cell.prompts] == ["MATCH", "MATCH", "ENGINE ERROR"]
    assert cell.status == "ENGINE ERROR"
    assert [gate.status for gate in report.verdict.gates] == ["ERROR"]
    assert "p2" in report.verdict.gates[0].reason
    assert (report.verdict.status, report.verdict.exit_code) == ("ERROR", 3)


def test_an_engine_that_writes_no_file_is_an_error(project: Any) -> None:
    silent = project.engine(
        """
        def score(p):
            return {"logits": {"path": p["logits"], "dtype": "float32", "shape": [len(p["token_ids"]), V]}}
        """
    )
    report = project.check(candidates={"silent": silent})
    assert [cell.status for cell in report.verdict.cells] == ["ENGINE ERROR"]
    assert report.verdict.exit_code == 3


def test_a_control_that_is_not_caught_fails_the_run(project: Any) -> None:
    planted = {**project.toy(noise=1e-8), "expect": "WRONG"}
    verdict = project.check(candidates={"good": project.toy(noise=1e-7), "planted": planted}).verdict
    assert [cell.as_expected for cell in verdict.cells] == [True, False]
    assert (verdict.status, verdict.exit_code) == ("FAIL", 1)


def test_a_control_that_is_caught_does_not_fail_the_run(project: Any) -> None:
    planted = {**project.toy(noise=1.0), "expect": "WRONG"}
    verdict = project.check(candidates={"good": project.toy(noise=1e-7), "planted": planted}).verdict
    assert [cell.status for cell in verdict.cells] == ["MATCH", "WRONG"]
    assert verdict.status == "PASS"


def test_a_control_that_crashes_is_not_a_control_that_is_caught(project: Any) -> None:
    planted = {**project.toy(fault="crash"), "expect": "WRONG"}
    verdict = project.check(candidates={"good": project.toy(noise=1e-7), "planted": planted}).verdict
    assert (verdict.status, verdict.exit_code) == ("ERROR", 3)


def test_only_that_matches_nothing_is_refused_and_lists_the_cells(project: Any) -> None:
    with pytest.raises(ContractError, match="good/m/original/prefill") as caught:
        project.check(only="godo/*")
    assert caught.value.exit_code == 2


PREFILL_ONLY = """
def hello(p):
    return {"protocol": 1, "engine": "fake", "versions": {}, "modes": ["prefill"]}
"""


def test_a_cell_that_the_engine_cannot_do_is_an_error(project: Any) -> None:
    fake = {**project.engine(PREFILL_ONLY), "may_be_exact": "both are the same program"}
    changes = {
        "reference": project.engine(name="whole.py"),
        "candidates": {"fake": fake},
        "matrix": {"mode": ["prefill", "decode"]},
    }
    verdict = project.check(**changes).verdict
    assert [one.cell for one in verdict.unmeasured] == ["fake/m/original/decode"]
    assert (verdict.status, verdict.exit_code) == ("ERROR", 3)
    verdict = project.check(**changes, may_be_unmeasured=["fake/*/decode"]).verdict
    assert verdict.status == "PASS"


def test_leave_to_be_unmeasured_does_not_let_everything_be_unmeasured(project: Any) -> None:
    fake = project.engine(PREFILL_ONLY)
    reference = project.engine(name="whole.py")
    verdict = project.check(
        reference=reference, candidates={"fake": fake}, matrix={"mode": ["decode"]}, may_be_unmeasured=["*"]
    ).verdict
    assert (verdict.status, verdict.exit_code) == ("ERROR", 3)


def test_a_trace_is_not_compared_with_itself(project: Any) -> None:
    """A candidate that is the reference, option for option, would be found perfect without being run."""
    verdict = project.check(candidates={"same": {"engine": "toy"}}).verdict
    assert (verdict.status, verdict.exit_code) == ("ERROR", 3)
    assert "itself" in verdict.unmeasured[0].reason


def test_an_engine_that_is_the_reference_is_found_out_even_if_it_cannot_say_what_it_is(project: Any) -> None:
    opened = open_contract(project.contract(candidates={"same": {"engine": "toy"}}))
    died = EngineError("it died")
    planned = plan(opened, {"reference": died, "same": died}, open_models(opened))
    assert not planned.cells and "itself" in planned.unmeasured[0].reason


def test_engines_of_one_spec_share_a_worker_and_are_asked_once(project: Any) -> None:
    """Two questions at once would break the worker, and the refusals that rest on its answer."""
    named = {f"name{number}": Spec("toy", directory=str(project.folder)) for number in range(8)}
    with Workers() as workers:
        said = workers.hello(named)
    assert list(said) == list(named)
    assert [type(one).__name__ for one in said.values()] == ["HelloResult"] * 8


def test_a_summary_of_nothing_is_an_error_and_no_zero() -> None:
    for values in ([], [np.empty(0)], [np.array([NAN, NAN])]):
        with pytest.raises(EngineError):
            summarize(values, seed=0)


@pytest.mark.parametrize("key", ["suites", "models"])
def test_a_file_that_is_missing_is_refused_and_no_success(project: Any, key: str) -> None:
    missing = {"suites": ["gone.yaml"], "models": {"m": {"original": "gone.json"}}}
    with pytest.raises(ContractError, match="gone") as caught:
        project.check(**{key: missing[key]})
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({}, 0),
        ({"candidates": {"bad": {"engine": "toy", "options": {"noise": 1.0}}}}, 1),
        ({"suites": ["gone.yaml"]}, 2),
        ({"candidates": {"dead": {"engine": "toy", "options": {"fault": "crash"}}}}, 3),
    ],
)
def test_the_command_line_exits_as_the_verdict_says(project: Any, changes: dict[str, Any], code: int) -> None:
    argv = [sys.executable, "-m", "logitproof", "check", str(project.contract(**changes)), "--out", str(project.folder / "run")]
    assert subprocess.run(argv, capture_output=True, check=False).returncode == code


def test_two_judgements_of_the_same_traces_give_the_same_numbers(project: Any) -> None:
    """Intervals are drawn at random, from a seed that the contract names and the verdict repeats."""
    project.suite("suite.yaml", "one", "two", "three")
    first, again = (project.check().as_json()["cells"][0]["metrics"]["kl_divergence"] for _ in range(2))
    assert first == again and first["interval"] is not None and first["seed"] == 0


def test_no_test_may_fail_in_silence() -> None:
    """An expected failure that passes must fail the run."""
    files = [path for path in Path(__file__).parents[1].rglob("test_*.py") if path != Path(__file__)]
    assert len(files) > 20
    lax = [f"{path.name}: {line}" for path in files for line in path.read_text("utf-8").splitlines() if "xfail" in line]
    assert [line for line in lax if "strict=True" not in line] == []
