"""Every rule fires where its fault is, names the line, and is silent about ten contracts that are right."""

from __future__ import annotations

import json
import subprocess
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from logitproof.cli import main
from logitproof.contract.suite import Prompt
from logitproof.errors import ContractError
from logitproof.lint import codes, lint

ROOT = Path(__file__).parents[2]
SOON = str(date.today() + timedelta(days=30))
WAIVER = {
    "id": "w", "cell": "good/*", "prompt": Prompt(id="p", text="hello there").sha256[:16], "issue": "owner/engine#7",
    "until": SOON, "reason": "the engine's old tokenizer",
}  # fmt: skip
GATE = {"id": "kl", "metric": "kl_divergence", "at_most": 1e-6, "basis": "measured 1e-9 on this machine"}
BOTH = {"mode": ["prefill", "decode"]}


def found(project: Any, **changes: Any) -> list[str]:
    """Codes of the findings; the contract has both modes, so that only what is changed is wrong."""
    return [one.code for one in lint(project.contract(**{"matrix": BOTH, **changes}))]


def gate(**changes: Any) -> list[dict[str, Any]]:
    return [{**GATE, **changes}]


def engine_with(project: Any, config: dict[str, Any]) -> dict[str, Any]:
    folder = project.folder / "hf"
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    return {"m": {"original": "hf"}}


def program(project: Any, text: str) -> dict[str, Any]:
    path = project.write("engine.sh", f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return {"good": {"engine": "command", "options": {"argv": ["./engine.sh", "--parity", "--fast=1"]}}}


def evidence(project: Any, status: str) -> list[dict[str, Any]]:
    project.write("verdict.json", json.dumps({"gates": [{"id": "kl", "status": status}]}))
    return [{"id": "s", "claim": "parity in float32", "gates": ["kl"], "evidence": {"verdict": "verdict.json"}}]


def test_a_right_contract_is_clean(project: Any) -> None:
    assert found(project) == []
    assert found(project, waivers=[WAIVER]) == []
    assert found(project, stages=evidence(project, "PASS"), status="active", gates=gate()) == ["LP060"]


@pytest.mark.parametrize("path", sorted(ROOT.glob("examples/**/*.parity.yaml")), ids=lambda path: path.name)
def test_the_shipped_contracts_are_clean(path: Path) -> None:
    # whether weights were made here says nothing about the contract
    assert [finding for finding in lint(path) if finding.code != "LP070"] == []


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"gatse": []}, "LP000"),
        ({"gates": [GATE, GATE]}, "LP000"),
        ({"waivers": [{key: value for key, value in WAIVER.items() if key != "issue"}]}, "LP000"),
        ({"waivers": [{key: value for key, value in WAIVER.items() if key != "until"}]}, "LP000"),
        ({"waivers": [WAIVER, WAIVER]}, "LP000"),
        ({"waivers": [{**WAIVER, "issue": "somewhere"}]}, "LP050"),
        ({"waivers": [{**WAIVER, "until": "2001-01-01"}]}, "LP051"),
        ({"waivers": [{**WAIVER, "until": "2999-01-01"}]}, "LP051"),
        ({"waivers": [{**WAIVER, "cell": "godo/*"}]}, "LP052"),
        ({"waivers": [{**WAIVER, "prompt": "0" * 16}]}, "LP052"),
        ({"may_be_unmeasured": ["*"]}, "LP053"),
        ({"gates": gate(at_most=5e3)}, "LP012"),
        ({"gates": gate(metric="cosine", at_most=None, at_least=-1.0)}, "LP012"),
        ({"gates": gate(metric="top1", at_most=None, at_least=0.0)}, "LP012"),
        ({"gates": gate(at_most=0.5, basis="it looked fine to us")}, "LP011"),
        ({"gates": gate(metric="cosine", at_most=None, at_least=0.9, basis="it looked fine to us")}, "LP011"),
        ({"gates": gate(metric="greedy_match_10", at_most=None, at_least=0.9)}, "LP013"),
        ({"gates": gate(statistic="p99", scope="position -1")}, "LP013"),
        ({"matrix": {"mode": ["prefill"]}}, "LP021"),
        ({"candidates": {"good": {"engine": "toi"}}}, "LP000"),
        ({"candidates": {"good": {"engine": "toy", "options": {"nois": 1}}}}, "LP000"),
        ({"candidates": {"good": {"engine": "command", "options": {"argv": ["./missing"]}}}}, "LP030"),
        ({"models": {"m": {"original": "gone.json"}}}, "LP070"),
        ({"candidates": {"good": {"engine": "toy", "python": "./no/python"}}}, "LP070"),
        ({"candidates": {"good": {"engine": "toy", "options": {"noise": "lots"}}}}, "LP071"),
        ({"candidates": {"good": {"engine": "toy", "options": {"fault": "cras"}}}}, "LP071"),
        ({"candidates": {"good": {"engine": "command"}}}, "LP071"),
        ({"error_bar": {"builds": {"b": {"engine": "toy", "options": {"seed": "x"}}}}}, "LP071"),
        ({"witness": {"engine": "toy", "options": {"scale": []}}}, "LP071"),
        ({"gates": gate(at_most=-1.0)}, "LP016"),
        ({"status": "active"}, "LP060"),
        ({"pins": "missing.pins.yaml"}, "LP061"),
    ],
)  # fmt: skip
def test_a_fault_is_found(project: Any, changes: dict[str, Any], code: str) -> None:
    assert code in found(project, **changes)


def test_a_loose_bound_with_a_figure_behind_it_is_taken(project: Any) -> None:
    assert found(project, gates=gate(at_most=0.5, basis="0.31 nats were measured, see results.json")) == []


def test_a_program_is_asked_for_its_flags(project: Any) -> None:
    assert found(project, candidates=program(project, 'echo "usage: --parity --fast=N"')) == []
    assert found(project, candidates=program(project, 'echo "usage: --parity" >&2; exit 1')) == ["LP031"]
    assert found(project, candidates=program(project, "exec sleep 60")) == ["LP030"]


@pytest.mark.parametrize(
    "config",
    [
        {"sliding_window": 4096, "layer_types": ["sliding_attention"]},
        {"rope_parameters": {"rope_type": "yarn", "original_max_position_embeddings": 8192}},
        {"text_config": {"rope_scaling": {"type": "longrope", "original_max_position_embeddings": 4096}}},
        {"layer_types": ["linear_attention"]},
        {"num_experts": 128},
    ],
)
def test_a_suite_that_cannot_see_the_familys_bugs_is_told(project: Any, config: dict[str, Any]) -> None:
    models = engine_with(project, config)
    assert "LP020" in found(project, models=models)
    project.write("suite.yaml", {"suite": "suite", "prompts": [{"id": "p", "token_ids": [1] * 9000}]})
    assert "LP020" not in found(project, models=models)


def test_a_window_that_is_switched_off_needs_no_long_prompt(project: Any) -> None:
    project.suite("suite.yaml", "a prompt that is long enough for a wrong rotation to be seen in it " * 2)
    models = engine_with(project, {"sliding_window": 4096, "use_sliding_window": False})
    assert "LP020" not in found(project, models=models)


def test_prompts_of_the_same_content_are_told(project: Any) -> None:
    project.suite("suite.yaml", "the same", "the same")
    assert found(project) == ["LP022"]


@pytest.mark.parametrize(
    ("typed", "verdict", "code"),
    [("proven", "FAIL", "LP001"), ("refuted", "PASS", "LP001"), ("pending", "PASS", "LP002"), ("pending", "FAIL", "LP002")],
)
def test_a_typed_status_that_the_verdict_contradicts_is_told(project: Any, typed: str, verdict: str, code: str) -> None:
    stages = [{**evidence(project, verdict)[0], "status": typed}]
    assert code in found(project, stages=stages)


def test_an_active_contract_with_an_open_stage_is_told(project: Any) -> None:
    assert "LP003" in found(project, stages=evidence(project, "FAIL"), status="active")
    assert "LP003" in found(project, stages=evidence(project, "PASS"), status="draft")


@pytest.mark.parametrize(
    "bound", [{"at_most": -1.0}, {"metric": "top1", "at_least": 1.5, "at_most": None}, {"metric": "cosine", "at_most": -1.5}]
)
def test_a_bound_that_nothing_can_meet_is_told(project: Any, bound: dict[str, Any]) -> None:
    assert "LP016" in found(project, gates=gate(**bound))


def test_weights_that_no_cell_reads_are_told(project: Any) -> None:
    models = {"m": {"original": "toy.json", "F32": "other.json"}}
    assert found(project, models=models) == ["LP063"]
    assert "LP063" not in found(project, models=models, matrix={**BOTH, "quantization": ["original", "F32"]})


def test_every_fault_of_a_contract_is_told_at_once_with_its_line_and_a_remedy(project: Any) -> None:
    band = {"match": "wide", "wrong": 1.0, "basis": "short"}
    data = project.data(bands=[band], gates=[], status="acitve", reference="toy", nonsense=1)
    del data["models"]
    found_ = lint(project.write("toys.parity.yaml", data))
    assert {finding.code for finding in found_} == {"LP000"} and len(found_) == 7
    assert len({finding.line for finding in found_}) >= 5 and all(finding.remedy for finding in found_)
    told = " ".join(finding.text for finding in found_)
    for words in ("nonsense", "models", "a mapping", "a number", "at least 10 letters", "at least 1 entry", "acitve"):
        assert words in told, words
    assert "Input should" not in told and "validation" not in told
    with pytest.raises(ContractError) as caught:
        project.check(**{"nonsense": 1, "status": "acitve"})
    assert len(str(caught.value).splitlines()) == 4


@pytest.mark.parametrize("status", ["draft", "active", "retired"])
def test_evidence_that_changed_is_told_in_every_status(project: Any, status: str) -> None:
    import hashlib

    stages = evidence(project, "FAIL")
    path = project.folder / "verdict.json"
    stages[0]["evidence"]["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    assert "LP005" not in found(project, stages=stages, status=status)
    path.write_text(path.read_text() + " ")
    assert "LP005" in found(project, stages=stages, status=status)
    path.unlink()
    assert "LP005" in found(project, stages=stages, status=status)


SHORT = {"layer_types": ["linear_attention"]}
LEAVE = {"code": "LP020", "reason": "one prompt of eight tokens is the whole contract", "until": SOON}


def test_a_finding_may_stand_with_a_reason_and_an_end(project: Any) -> None:
    models = engine_with(project, SHORT)
    assert "LP020" in found(project, models=models)
    for at in ({}, {"at": "suites"}):
        assert found(project, models=models, lint=[{**LEAVE, **at}]) == []
    assert set(found(project, models=models, lint=[{**LEAVE, "at": "gates"}])) == {"LP020", "LP008"}


def test_leave_that_has_ended_or_is_for_nothing_is_told(project: Any) -> None:
    models = engine_with(project, SHORT)
    assert set(found(project, models=models, lint=[{**LEAVE, "until": "2020-01-01"}])) == {"LP020", "LP007"}
    assert found(project, lint=[{**LEAVE, "code": "LP050"}]) == ["LP008"]


@pytest.mark.parametrize("missing", ["reason", "until"])
def test_leave_without_a_reason_or_an_end_is_refused(project: Any, missing: str) -> None:
    assert found(project, lint=[{key: value for key, value in LEAVE.items() if key != missing}]) == ["LP000"]


def test_a_decision_names_what_was_weighed_and_why_it_was_not_taken(project: Any) -> None:
    decision = {
        "date": "2026-03-01",
        "kind": "decided",
        "title": "HF in FP16 is the reference",
        "reason": "their fixture is FP16",
    }
    weighed = [{"title": "llama.cpp", "rejected": "it quantizes activations to eight bits"}]
    assert found(project, amendments=[{**decision, "alternatives": weighed}]) == []
    assert found(project, amendments=[decision]) == ["LP000"]
    assert found(project, amendments=[{**decision, "kind": "corrected", "alternatives": weighed}]) == ["LP000"]


def test_a_mirror_must_be_byte_identical(project: Any) -> None:
    import hashlib

    project.write("mirror.md", "the same")
    reference = {
        "id": "r",
        "source": "engine repository",
        "sha256": hashlib.sha256(b"the same").hexdigest(),
        "mirror": "mirror.md",
    }
    assert found(project, references=[reference]) == []
    project.write("mirror.md", "the same\n")
    assert found(project, references=[reference]) == ["LP004"]


def test_a_bound_that_was_loosened_needs_an_amendment(project: Any) -> None:
    def git(*words: str) -> None:
        who = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", *who, *words], cwd=project.folder, check=True, capture_output=True)

    git("init", "-q")
    project.contract(matrix=BOTH, gates=gate())
    git("add", "-A")
    git("commit", "-qm", "first")
    assert found(project, gates=gate(at_most=1e-7)) == []
    assert found(project, gates=gate(at_most=1e-5)) == ["LP010"]
    amendment = {
        "date": "2026-01-01",
        "kind": "loosened",
        "title": "t",
        "reason": "another kernel was measured",
        "gates": ["kl"],
    }
    assert found(project, gates=gate(at_most=1e-5), amendments=[amendment]) == []
    git("add", "-A")
    git("commit", "-qm", "second")
    assert found(project, gates=gate(at_most=1e-4), amendments=[amendment]) == ["LP010"], "the old amendment covers one change"


def test_pins_that_leave_something_out_are_told(project: Any) -> None:
    contract = project.contract(matrix=BOTH)
    pins = project.folder / "toys.pins.yaml"
    assert CliRunner().invoke(main, ["pin", str(contract), "--out", str(pins)]).exit_code == 0
    assert found(project, pins=pins.name) == []
    assert found(project, pins=pins.name, status="active") == ["LP062"]
    more = {**project.data()["candidates"], "more": {"engine": "toy"}}
    assert found(project, pins=pins.name, candidates=more) == ["LP062"]


def test_a_finding_is_greppable_and_has_its_line(project: Any) -> None:
    path = project.contract(matrix=BOTH, waivers=[{**WAIVER, "until": "2001-01-01"}])
    done = CliRunner().invoke(main, ["lint", str(path), str(path)])
    assert done.exit_code == 2
    first, second = done.output.splitlines()
    assert first == second
    line = int(first.removeprefix(f"{path}:").partition(":")[0])
    assert "id: w" in path.read_text().splitlines()[line - 1] and ": LP051 " in first
    assert json.loads(CliRunner().invoke(main, ["lint", "--json", str(path)]).output)["findings"][0]["code"] == "LP051"


def test_every_code_is_in_the_documentation() -> None:
    page = (ROOT / "docs/contract.md").read_text("utf-8")
    missing = [f"| `{code}` | {text} |" for code, text in codes().items() if f"| `{code}` | {text} |" not in page]
    assert not missing, "\n".join(missing)


def test_an_option_whose_type_only_the_engine_knows_is_not_judged(project: Any) -> None:
    assert "LP071" not in found(project, candidates={"good": {"engine": "stdout", "options": {"argv": ["true"], "rows": 7}}})


def test_leave_for_files_that_are_elsewhere_holds_on_a_machine_that_has_them(project: Any) -> None:
    leave = {"lint": [{"code": "LP070", "until": SOON, "reason": "the weights are on the machine that runs it"}]}
    assert found(project, **leave) == []
    assert found(project, models={"m": {"original": "gone.json"}}, **leave) == []
