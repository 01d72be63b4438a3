"""Known divergences are excused by content, cell and date, and never forgotten; predictions that fall say what to do."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from logitproof.contract.contract import Contract
from logitproof.contract.history import Falsification, Stage, stage_verdict
from logitproof.contract.suite import Prompt
from logitproof.verdict.case import Case, band_of
from logitproof.verdict.judge import judge

TEXTS = ("hello there", "another prompt")
SHA = Prompt(id="p0", text=TEXTS[0]).sha256


def waiver(**changes: Any) -> dict[str, Any]:
    return {
        "id": "known",
        "cell": "mine/*",
        "prompt": SHA[:16],
        "issue": "tracker/7",
        "until": "2999-01-01",
        "reason": "the tokenizer of the engine is old",
        **changes,
    }


def wrong_on_first(project: Any) -> dict[str, Any]:
    """An engine that is wrong for the tokens of the first prompt only."""
    first = [1 + byte for byte in TEXTS[0].encode()]
    return project.engine(
        f"""
        plain = score
        def score(p):
            rows = [row(t) for t in p["token_ids"]]
            if p["token_ids"][:4] == {first[:4]}:
                rows = [r[::-1] for r in rows]
            return {{"logits": write(p["logits"], rows)}}
        """,
        name="wrong.py",
    )


def run(project: Any, candidate: dict[str, Any], **changes: Any) -> Any:
    return project.check(
        reference=project.engine(name="right.py"), candidates={"mine": candidate}, matrix={"mode": ["prefill"]}, **changes
    )


def test_without_a_waiver_the_run_fails(project: Any) -> None:
    assert run(project, wrong_on_first(project)).verdict.status == "FAIL"


def test_a_waived_prompt_is_known_divergent_and_the_rest_is_judged(project: Any) -> None:
    report = run(project, wrong_on_first(project), waivers=[waiver()])
    cell = report.verdict.cells[0]
    assert report.verdict.status == "PASS"
    assert (cell.status, [prompt.status for prompt in cell.prompts]) == ("KNOWN-DIVERGENT", ["KNOWN-DIVERGENT", "MATCH"])
    assert [one.status for one in report.verdict.waivers] == ["KNOWN-DIVERGENT"]
    said = report.as_json()
    assert said["cells"][0]["prompts"][0]["waiver"] == "known"
    assert said["cells"][0]["prompts"][0]["prompt_sha256"].startswith(SHA[:16])


def test_a_waiver_of_what_passes_again_fails_the_run(project: Any) -> None:
    report = run(project, project.engine(name="mine.py"), waivers=[waiver()])
    assert (report.verdict.status, report.verdict.exit_code) == ("FAIL", 1)
    assert report.verdict.waivers[0].status == "FIXED"
    assert "take the waiver out" in report.verdict.waivers[0].text


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"until": "2001-01-01"}, "EXPIRED"),
        ({"prompt": "0" * 16}, "UNUSED"),
        ({"cell": "another/*"}, "UNUSED"),
    ],
)
def test_a_waiver_that_does_not_apply_excuses_nothing_and_is_told(project: Any, changes: Any, status: str) -> None:
    report = run(project, wrong_on_first(project), waivers=[waiver(**changes)])
    assert report.verdict.status == "FAIL"
    assert [one.status for one in report.verdict.waivers] == [status]


def test_a_waiver_ends_on_its_day(project: Any) -> None:
    report = run(project, wrong_on_first(project), waivers=[waiver(until="2998-12-31")])
    contract: Contract = report.opened.contract
    cases = [Case(cell, rows, band_of(contract, cell)) for cell, rows in report.compared.items()]
    assert judge(cases, contract, today=date(2998, 12, 31)).status == "PASS"
    assert judge(cases, contract, today=date(2999, 1, 1)).status == "FAIL"


def test_a_waiver_excuses_no_error(project: Any) -> None:
    report = run(project, project.engine("def score(p):\n    os._exit(1)\n", name="dead.py"), waivers=[waiver()])
    assert report.verdict.status == "ERROR"


def test_waiving_every_prompt_proves_nothing(project: Any) -> None:
    broken = project.engine("row = lambda seed: [((seed * 13 + n * 5) % 89) / 10 for n in range(V)]\n", name="all.py")
    both = [waiver(), waiver(id="other", prompt=Prompt(id="p1", text=TEXTS[1]).sha256)]
    assert run(project, broken, waivers=both).verdict.status == "ERROR"


def test_a_refuted_prediction_says_what_to_check_first(project: Any) -> None:
    entry = {
        "id": "F1",
        "prediction": "the engine computes the model of the reference",
        "test": ["kl"],
        "if_fails": [{"when": ["kl"], "steps": ["compare the token ids", "then the embedding"]}],
    }
    report = run(project, wrong_on_first(project), falsification=[entry])
    (fallen,) = report.verdict.falsified
    assert (fallen.id, fallen.gates, fallen.steps) == ("F1", ("kl",), ("compare the token ids", "then the embedding"))
    assert not run(project, project.engine(name="fine.py"), falsification=[entry]).verdict.falsified


def test_the_most_specific_steps_are_given() -> None:
    steps = [{"when": ["a"], "steps": ["one"]}, {"when": ["a", "b"], "steps": ["both"]}]
    entry = Falsification.model_validate({"id": "F", "prediction": "p", "test": ["a", "b"], "if_fails": steps})
    assert [entry.next_steps(failed) for failed in ({"a"}, {"a", "b"}, {"b"}, set())] == [["one"], ["both"], [], []]


@pytest.mark.parametrize(
    ("gates", "status"),
    [
        ([{"id": "g", "status": "PASS"}], "proven"),
        ([{"id": "g", "status": "PASS"}, {"id": "g", "status": "FAIL"}], "refuted"),
        ([{"id": "g", "status": "PASS"}, {"id": "g", "status": "FAIL", "control": True}], "proven"),
        ([{"id": "g", "status": "ERROR"}], "pending"),
        ([{"id": "h", "status": "PASS"}], "pending"),
        (None, "pending"),
    ],
)
def test_the_status_of_a_stage_is_computed_from_its_evidence(tmp_path: Path, gates: Any, status: str) -> None:
    if gates is not None:
        (tmp_path / "verdict.json").write_text(json.dumps({"gates": gates}))
    stage = Stage.model_validate({"id": "s", "claim": "c", "gates": ["g"], "evidence": {"verdict": "verdict.json"}})
    assert stage_verdict(stage, tmp_path).status == status


def test_evidence_that_was_changed_proves_nothing(tmp_path: Path) -> None:
    (tmp_path / "verdict.json").write_text(json.dumps({"gates": [{"id": "g", "status": "PASS"}]}))
    evidence = {"verdict": "verdict.json", "sha256": "0" * 64}
    stage = Stage.model_validate({"id": "s", "claim": "c", "gates": ["g"], "evidence": evidence})
    assert "changed" in stage_verdict(stage, tmp_path).why
