"""A reference that holds some rows of a prompt serves the gates whose scope is among them, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from logitproof.contract.opened import open_contract
from logitproof.engines.toy import Toy
from logitproof.errors import ContractError
from logitproof.golden.freeze import freeze
from logitproof.jobs.capture import capture
from logitproof.parity import assert_parity
from logitproof.protocol.sampler import Sampling
from logitproof.protocol.sink import RowSink
from logitproof.quality.sections import qualities
from logitproof.runs.workspace import Workspace

BASIS = "a reason of more than ten letters"
COSINE = {"id": "cosine", "metric": "cosine", "at_least": 0.99, "basis": BASIS}
IDS = [5, 9, 11, 40, 7, 3]
SUITE = {"suite": "ids", "max_new_tokens": 0, "prompts": [{"id": "a", "token_ids": IDS}]}


def fixture(project: Any, *positions: int, noise: float = 0.0) -> dict[str, Any]:
    """A reference of these rows of the toy's logits, as JSON fixtures of one vector each."""
    project.write("suite.yaml", SUITE)
    toy = Toy()
    toy.load(project.model)
    rows = toy.score(IDS, "prefill").logits
    rows = rows + noise * np.random.default_rng(0).normal(size=rows.shape)
    items = [
        {"id": "a", "tokens": IDS, "vocab_size": len(rows[at]), "position": at, "position_is": "index",
         "logits": [float(value) for value in rows[at]], "argmax_token": int(rows[at].argmax())}
        for at in positions
    ]  # fmt: skip
    (project.folder / "fx.json").write_text(json.dumps(items), "utf-8")
    return {"engine": "dump", "options": {"path": "fx.json"}}


def judged(project: Any, reference: dict[str, Any], *gates: dict[str, Any], **changes: Any) -> Any:
    wide = [{"match": 0.5, "wrong": 1.0, "basis": BASIS}]
    return project.check(
        reference=reference, candidates={"toy": project.toy(noise=1e-3)}, gates=list(gates),
        **{"bands": wide, "matrix": {"mode": ["prefill", "decode"]}, **changes},
    )  # fmt: skip


@pytest.mark.parametrize(("held", "scope"), [((5,), "position -1"), ((2,), "position 2"), ((3, 4, 5), "last 3 tokens")])
def test_a_gate_whose_scope_is_held_is_judged_in_every_mode(project: Any, held: tuple[int, ...], scope: str) -> None:
    report = judged(project, fixture(project, *held), {**COSINE, "scope": scope})
    assert report.verdict.status == "PASS", report.verdict.reason
    for cell in report.verdict.cells:
        assert (cell.status, cell.positions, cell.coverage.planned) == ("MATCH", len(held), len(held))
        assert cell.counts["NOT-MEASURED"] == len(IDS) - len(held)
        assert f"holds {len(held)} of {len(IDS)} positions" in cell.reason
    assert [gate.positions for gate in report.verdict.gates] == [len(held)] * 2


def test_a_wrong_row_fails_the_gate_and_the_position_has_its_line(project: Any) -> None:
    reference = fixture(project, 5, noise=5.0)
    path = project.contract(
        reference=reference, candidates={"toy": project.toy()}, gates=[{**COSINE, "scope": "position -1"}],
        bands=[{"match": 0.5, "wrong": 1.0, "basis": BASIS}], matrix={"mode": ["prefill"]},
    )  # fmt: skip
    space = Workspace(project.folder / "run")
    assert space.check(open_contract(path)).verdict.status == "FAIL"
    (line,) = map(json.loads, (space.folder / "failures.jsonl").read_text("utf-8").splitlines())
    assert line["token_idx"] == 5 and line["gates"] == ["cosine"] and len(line["top5_reference"]) == 5
    assert space.judge_again(path).verdict.status == "FAIL"


@pytest.mark.parametrize("scope", ["all", "position 0", "last 2 tokens"])
def test_a_gate_that_looks_beyond_what_is_held_is_no_pass_and_says_so(project: Any, scope: str) -> None:
    report = judged(project, fixture(project, 5), {**COSINE, "scope": "position -1"}, {**COSINE, "id": "wide", "scope": scope})
    assert report.verdict.status == "ERROR" and report.verdict.exit_code != 0
    assert "the reference holds 1 of 6 positions" in report.verdict.reason and "wide" in report.verdict.reason


def test_a_candidate_that_holds_one_row_is_measured_in_part_and_no_pass(project: Any) -> None:
    dump = fixture(project, 5, noise=1e-3)
    gates = [{**COSINE, "scope": "position -1"}]
    wide = [{"match": 0.5, "wrong": 1.0, "basis": BASIS}]
    changes: dict[str, Any] = {"matrix": {"mode": ["prefill"]}, "bands": wide, "gates": gates}
    report = project.check(reference={"engine": "toy"}, candidates={"theirs": dump}, **changes)
    assert report.verdict.status == "ERROR" and "1 of 6 planned positions" in report.verdict.reason


def test_two_dumps_without_a_common_position_are_not_compared(project: Any) -> None:
    one = fixture(project, 5)
    (project.folder / "fx.json").rename(project.folder / "other.json")
    fixture(project, 2)
    other = {"engine": "dump", "options": {"path": "other.json"}}
    gates = [{**COSINE, "scope": "position -1"}]
    report = project.check(reference=one, candidates={"theirs": other}, gates=gates, matrix={"mode": ["prefill"]})
    assert report.verdict.status == "ERROR" and "no position is held by both sides" in report.verdict.reason


@pytest.mark.parametrize("what", ["capture", "freeze", "quality", "assert_parity"])
def test_what_needs_every_row_refuses_a_trace_that_has_some(project: Any, what: str) -> None:
    reference = fixture(project, 5)
    report = judged(project, reference, {**COSINE, "scope": "position -1"})
    held = [trace for trace in report.results.values() if getattr(trace, "positions", [])]
    assert held
    calls = {
        "capture": lambda: capture(
            "dump", project.folder / "fx.json", str(project.folder / "suite.yaml"), project.folder / "again"
        ),
        "freeze": lambda: freeze(project.folder / "toys.parity.yaml", project.folder / "out.golden"),
        "quality": lambda: qualities(report, Sampling(temperature=0.7)),
        "assert_parity": lambda: assert_parity(held[0], held[0]),
    }
    with pytest.raises(ContractError, match="holds 1 of the 6 positions"):
        calls[what]()


ANSWERS = {
    "twice": ("[1, 1]", "held"),
    "beyond": ("[99]", "held"),
    "falling": ("[2, 1]", "held"),
    "nothing": ("[]", "held"),
    "numbers elsewhere": ("[1]", "row 0 is not held, and holds numbers"),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_whose_held_rows_cannot_be_is_garbage(project: Any, name: str) -> None:
    held, text = ANSWERS[name]
    engine = project.engine(f"""\
        def score(p):
            return {{"logits": write(p["logits"], [row(t) for t in p["token_ids"]]), "held": {held}}}
        """)
    verdict = project.check(candidates={"bad": engine}, matrix={"mode": ["prefill"]}).verdict
    assert verdict.status == "ERROR" and verdict.exit_code == 3 and text in verdict.reason


def test_nan_in_a_row_that_is_held_is_garbage(project: Any) -> None:
    engine = project.engine("""\
        def score(p):
            count = len(p["token_ids"])
            return {"logits": write(p["logits"], [[float("nan")] * V] * count), "held": [0]}
        """)
    verdict = project.check(candidates={"bad": engine}, matrix={"mode": ["prefill"]}).verdict
    assert verdict.status == "ERROR" and "nan" in verdict.reason


def test_rows_are_scattered_and_counted_from_the_first_that_is_wanted(tmp_path: Path) -> None:
    rows = np.arange(8, dtype=np.float32).reshape(2, 4)
    with RowSink(tmp_path / "rows", first=2) as sink:
        sink.scatter(rows, [1, 4], 6)
        said = sink.announce()
    assert said["held"] == [2] and said["logits"]["shape"] == [4, 4]
    written = np.fromfile(tmp_path / "rows", "<f4").reshape(4, 4)
    assert np.array_equal(written[2], rows[1]) and np.isnan(np.delete(written, 2, axis=0)).all()
