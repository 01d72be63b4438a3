"""What a contract links to: kernels that a band rests on, items of other repositories that wait for its stages."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from logitproof.cli import main
from logitproof.lint import lint

BASIS = "a reason of more than ten letters"
Q8 = {"engine": "ggml", "precision": "Q8_0", "kind": "matmul", "name": "q_proj", "rms": 0.004, "assumed": 0.004}
Q4 = {**Q8, "precision": "Q4_K", "name": "down_proj"}
ODD = {**Q8, "name": "odd", "rms": 0.02}
NEW = {**Q8, "name": "new", "assumed": None}


def kernel_findings(project: Any, rows: list[str], label: str = "Q8_0", **more: Any) -> list[str]:
    project.write("kernels.json", json.dumps({"kernels": [Q8, Q4, ODD, NEW]}))
    band = {
        "match": 0.1, "wrong": 0.5, "basis": BASIS, "where": {"quantization": label},
        "rests_on": {"baseline": "kernels.json", "rows": rows, **more},
    }  # fmt: skip
    models = {"m": {"original": "toy.json", label: "toy.json"}}
    path = project.contract(bands=[{"match": 0.1, "wrong": 0.5, "basis": BASIS}, band], models=models)
    return [f"{finding.code} {finding.text}" for finding in lint(path) if finding.code.startswith("LP08")]


@pytest.mark.parametrize(
    ("rows", "label", "told"),
    [
        (["ggml Q8_0 matmul q_proj"], "Q8_0", []),
        (["ggml * matmul [qd]*"], "Q8_0", []),
        (["ggml Q4_K matmul *"], "Q4_K_M", []),
        (["ggml Q8_0 matmul q_prj"], "Q8_0", ["LP081", "no row 'ggml Q8_0 matmul q_prj'"]),
        (["ggml Q8_0 matmul *_proj", "ggml Q8_0 matmul odd"], "Q8_0", ["LP081", "off by 0.02, 3 times 0.004"]),
        (["ggml Q8_0 matmul q_proj", "ggml Q8_0 matmul new"], "Q8_0", ["LP081", "no assumed error"]),
        (["ggml Q8_0 matmul q_proj"], "Q4_K_M", ["LP081", "no row of the quantization Q4_K_M"]),
        (["ggml Q4_K matmul *"], "Q4_0", ["LP081", "no row of the quantization Q4_0"]),
    ],
)
def test_the_kernels_that_a_band_rests_on_are_looked_up(project: Any, rows: list[str], label: str, told: list[str]) -> None:
    found = kernel_findings(project, rows, label)
    assert len(found) == bool(told)
    assert all(words in found[0] for words in told)


def test_a_baseline_that_has_changed_or_is_not_there_is_a_finding(project: Any) -> None:
    kernel_findings(project, ["ggml Q8_0 matmul q_proj"])
    digest = hashlib.sha256((project.folder / "kernels.json").read_bytes()).hexdigest()
    assert kernel_findings(project, ["ggml Q8_0 matmul q_proj"], sha256=digest) == []
    (found,) = kernel_findings(project, ["ggml Q8_0 matmul q_proj"], sha256="0" * 64)
    assert "has sha256" in found
    (missing,) = kernel_findings(project, ["ggml Q8_0 matmul q_proj"], baseline="nowhere.json")
    assert missing.startswith("LP080")


@pytest.mark.parametrize("content", ["{", "[]", '{"kernels": 5}', '{"kernels": [{"engine": "x"}]}', '{"kernels": [NaN]}'])
def test_a_file_that_is_no_baseline_is_a_finding(project: Any, content: str) -> None:
    kernel_findings(project, ["*"])
    project.write("other.json", content)
    (found,) = kernel_findings(project, ["*"], baseline="other.json")
    assert found.startswith("LP080")


def verdict(folder: Path, status: str) -> None:
    (folder / "verdict.json").write_text(json.dumps({"gates": [{"id": "kl", "status": status}]}), "utf-8")


def linted(project: Any, *unblocks: dict[str, Any], **changes: Any) -> tuple[int, str, dict[str, Any]]:
    stages = [{"id": "s", "claim": "it holds", "gates": ["kl"], "evidence": {"verdict": "verdict.json"}}]
    path = project.contract(stages=stages, unblocks=list(unblocks), status="active", **changes)
    told = CliRunner().invoke(main, ["lint", str(path)])
    answer = CliRunner().invoke(main, ["lint", str(path), "--json"])
    return told.exit_code, " ".join(told.output.split()), json.loads(answer.output)


ITEM = {"item": "owner/engine#17", "stages": ["s"]}


def test_an_item_is_unblocked_by_a_recorded_verdict_whose_hash_the_other_side_verifies(project: Any) -> None:
    verdict(project.folder, "PASS")
    digest = hashlib.sha256((project.folder / "verdict.json").read_bytes()).hexdigest()
    _, told, answer = linted(project, ITEM)
    assert "owner/engine#17 is unblocked" in told and digest in told
    assert answer["unblocks"] == [
        {"item": "owner/engine#17", "is_unblocked": True, "why": "s proven", "evidence": {"verdict.json": digest}}
    ]
    evidence = {"verdict": "verdict.json", "sha256": digest}
    stages = [{"id": "companion", "claim": "the other contract holds", "gates": ["kl"], "evidence": evidence}]
    theirs = project.write("theirs.parity.yaml", project.data(stages=stages, contract="theirs"))
    assert not [finding for finding in lint(theirs) if finding.code == "LP005"]
    assert [finding.code for finding in lint(theirs) if "every stage is proven" in finding.text] == ["LP003"]
    (project.folder / "verdict.json").write_text(json.dumps({"gates": [{"id": "kl", "status": "PASS", "bound": 1}]}), "utf-8")
    assert [finding.code for finding in lint(theirs)].count("LP005") == 1


@pytest.mark.parametrize("status", ["FAIL", "ERROR", None])
def test_an_item_stays_blocked_where_its_stage_is_not_proven(project: Any, status: str | None) -> None:
    if status:
        verdict(project.folder, status)
    _, told, answer = linted(project, ITEM)
    assert "owner/engine#17 is blocked: the stage s is" in told
    assert answer["unblocks"][0]["is_unblocked"] is False and answer["unblocks"][0]["evidence"] == {}


def test_a_typed_status_that_the_evidence_contradicts_is_a_finding(project: Any) -> None:
    verdict(project.folder, "FAIL")
    code, told, _ = linted(project, {**ITEM, "status": "unblocked"})
    assert code == 2 and "LP006" in told
    verdict(project.folder, "PASS")
    _, told, _ = linted(project, {**ITEM, "status": "unblocked"})
    assert "LP006" not in told


@pytest.mark.parametrize(
    ("item", "text"),
    [
        ({**ITEM, "stages": ["t"]}, "no stage is called 't'"),
        ({**ITEM, "item": "somewhere"}, "item"),
        ({"item": "a/b#1"}, "stages"),
    ],
)
def test_an_item_that_cannot_be_is_told_with_its_line(project: Any, item: dict[str, Any], text: str) -> None:
    code, told, _ = linted(project, item)
    assert code == 2 and text in told and "LP000" in told
