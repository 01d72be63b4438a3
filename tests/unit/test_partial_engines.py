"""An engine is judged by what it can answer: by its gates, where each was judged on all positions of its scope."""

from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import CliRunner

from logitproof.cli import main
from logitproof.contract.opened import open_contract
from logitproof.runs.workspace import Workspace

BASIS = "a reason of more than ten letters"
TOP1 = {"id": "top1", "metric": "top1", "statistic": "min", "at_least": 1.0, "basis": BASIS}
KL = {"id": "kl", "metric": "kl_divergence", "at_most": 1e-6, "basis": BASIS}
ARGMAX = """\
    def hello(p):
        return {"protocol": 1, "engine": "fake", "modes": ["prefill"]}
    def chosen(p, rows):
        with open(p["logits"] + ".topk_ids", "wb") as file:
            for row in rows:
                file.write(struct.pack("<i", row.index(max(row)) SHIFT))
        return {"path": p["logits"] + ".topk_ids", "dtype": "int32", "shape": [len(rows), 1]}
    def score(p):
        return {"topk_ids": chosen(p, [row(t) for t in p["token_ids"]])}
    """
"""One that gives the token that it chooses, and nothing else."""


def argmax_only(project: Any, shift: str = "") -> dict[str, Any]:
    return {"engine": project.engine(ARGMAX.replace("SHIFT", shift), "argmax.py"), "whole": project.engine()}


def run(project: Any, *gates: dict[str, Any], shift: str = "", **changes: Any) -> Any:
    engines = argmax_only(project, shift)
    return project.check(
        reference=engines["whole"], candidates={"cli": engines["engine"]}, gates=list(gates), **changes
    ).verdict


def test_an_engine_that_gives_one_token_passes_the_gate_that_it_can_answer(project: Any) -> None:
    verdict = run(project, TOP1)
    assert (verdict.status, verdict.exit_code, verdict.reason) == ("PASS", 0, "")
    (cell,) = verdict.cells
    assert cell.status == "MATCH" and cell.positions == verdict.gates[0].positions > 0 and "gates alone" in cell.reason


def test_an_engine_that_gives_one_token_fails_the_gate_that_it_can_answer(project: Any) -> None:
    verdict = run(project, TOP1, shift="+ 1")
    assert (verdict.status, verdict.exit_code) == ("FAIL", 1)
    assert verdict.cells[0].status == "WRONG" and "top1" in verdict.reason


ANYTHING = {"id": "any", "metric": "regret", "at_most": 1e9, "basis": BASIS}


def test_a_token_that_no_tie_explains_is_wrong_whatever_the_gates_let_pass(project: Any) -> None:
    engines, out = argmax_only(project, "+ 1"), project.folder / "out"
    contract = project.contract(reference=engines["whole"], candidates={"cli": engines["engine"]}, gates=[ANYTHING])
    verdict = Workspace(out).check(open_contract(contract)).verdict
    assert (verdict.status, verdict.exit_code) == ("FAIL", 1)
    (cell,) = verdict.cells
    assert cell.status == "WRONG" and cell.counts == {"WRONG": cell.positions} and "are WRONG" in cell.reason
    lines = [json.loads(line) for line in (out / "failures.jsonl").read_text().splitlines()]
    assert len(lines) == cell.positions
    assert all(entry["breaks"][0]["metric"] == "regret" and entry["breaks"][0]["observed"] > 0 for entry in lines)
    page = (out / "report.md").read_text()
    assert "0 nats" not in page and "above the band's noise" not in page, "nothing is told of what was not measured"


def test_tokens_that_a_band_allows_to_differ_leave_the_rest_to_the_gates(project: Any) -> None:
    """As many flips as a mixture of experts may have: what the band says nothing about is judged by what was asked of it."""
    flips = "+ (row is rows[0])"
    bands = [{"match": 1e-4, "wrong": 1e-2, "allow": 0.5, "basis": BASIS}]
    verdict = run(project, ANYTHING, shift=flips, bands=bands)
    (cell,) = verdict.cells
    assert (verdict.status, cell.status) == ("PASS", "MATCH"), verdict.reason
    assert cell.counts["WRONG"] >= 1 and cell.counts["NOT-MEASURED"] >= 1
    assert (cell.coverage.planned, cell.coverage.judged) == (cell.positions, cell.positions)


def test_it_serves_as_the_reference_of_such_a_gate(project: Any) -> None:
    engines = argmax_only(project)
    project.write("suite.yaml", {"suite": "ids", "max_new_tokens": 0, "prompts": [{"id": "a", "token_ids": [5, 9, 11]}]})
    verdict = project.check(reference=engines["engine"], candidates={"whole": engines["whole"]}, gates=[TOP1]).verdict
    assert (verdict.status, verdict.exit_code) == ("PASS", 0), verdict.reason


def test_a_gate_that_it_cannot_answer_is_no_pass_and_says_which(project: Any) -> None:
    verdict = run(project, TOP1, KL)
    assert verdict.status == "ERROR" and verdict.exit_code != 0
    assert "kl" in verdict.reason and "cli/m/original/prefill" in verdict.reason


def test_leave_to_stay_unmeasured_reaches_what_an_engine_cannot_answer(project: Any) -> None:
    engines = argmax_only(project)
    # an engine of its own, whose rows differ from the reference's by a little
    other = "def row(seed):\n    return [((seed * 31 + n * 7) % 97) / 10 - n * 1e-7 for n in range(V)]\n"
    candidates = {"cli": engines["engine"], "whole": project.engine(other, "other.py")}
    verdict = project.check(
        reference=engines["whole"], candidates=candidates, gates=[TOP1, KL], may_be_unmeasured=["cli/*"]
    ).verdict
    assert (verdict.status, verdict.exit_code) == ("PASS", 0), verdict.reason
    assert [cell.cell for cell in verdict.unmeasured] == ["cli/m/original/prefill"]
    assert {gate.cell: gate.status for gate in verdict.gates if gate.id == "kl"} == {
        "cli/m/original/prefill": "NOT-MEASURED",
        "whole/m/original/prefill": "PASS",
    }


def test_leave_to_stay_unmeasured_excuses_no_wrong_answer_and_no_crash(project: Any) -> None:
    verdict = run(project, TOP1, KL, shift="+ 1", may_be_unmeasured=["cli/*"])
    assert (verdict.status, verdict.exit_code) == ("FAIL", 1)
    dead = project.check(candidates={"cli": project.toy(fault="crash")}, gates=[TOP1], may_be_unmeasured=["*"]).verdict
    assert (dead.status, dead.exit_code) == ("ERROR", 3) and dead.reason


@pytest.mark.parametrize(
    "changes",
    [
        {"candidates": {"bad": {"engine": "toy", "options": {"noise": 1.0}}}},
        {"candidates": {"bad": {"engine": "toy", "options": {"fault": "nan"}}}},
        {"candidates": {"good": {"engine": "toy", "options": {"noise": 1e-7}, "expect": "WRONG"}}},
        {"gates": [{**KL, "scope": "position 999"}]},
        {"bands": [{"match": 1.0, "wrong": 1.0, "basis": BASIS, "where": {"mode": "decode"}}]},
        {"reference": {"engine": "toy", "options": {"fault": "crash-at-load"}}},
    ],
)
def test_every_exit_that_is_not_zero_has_its_reason(project: Any, changes: dict[str, Any]) -> None:
    report = project.check(**changes)
    assert report.verdict.exit_code != 0 and report.verdict.reason.strip()
    assert report.as_json()["reason"] == report.verdict.reason


@pytest.mark.filterwarnings("error")
def test_the_worst_prompt_is_found_by_what_is_known_of_its_rows(project: Any) -> None:
    engines = argmax_only(project, "+ 1")
    out = project.folder / "out"
    contract = project.contract(reference=engines["whole"], candidates={"cli": engines["engine"]}, gates=[ANYTHING])
    Workspace(out).check(open_contract(contract))
    done = CliRunner().invoke(main, ["localize", str(out)])
    assert "Warning" not in done.output and "offers no taps" in done.output
