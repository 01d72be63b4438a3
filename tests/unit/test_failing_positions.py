"""failures.jsonl has a line for every position that breaks a gate, a band or a strict rank."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from logitproof.reporters.failures import Failures

BASIS = "a reason of more than ten letters"
WIDE_BAND = [{"match": 100.0, "wrong": 200.0, "basis": BASIS}]
"""A band that nothing breaks, so that what fails is a gate alone."""
GATES = {
    "top1": {"metric": "top1", "statistic": "min", "at_least": 1.0},
    "top1-mean": {"metric": "top1", "at_least": 0.99},
    "top5-set": {"metric": "top5_overlap", "statistic": "min", "at_least": 1.0},
    "top5-rank": {"metric": "top5_rank_agreement", "statistic": "min", "at_least": 1.0},
    "kl": {"metric": "kl_divergence", "statistic": "max", "at_most": 1e-3},
    "kl-mean": {"metric": "kl_divergence", "at_most": 1e-3},
    "cosine": {"metric": "cosine", "statistic": "min", "at_least": 0.9999},
    "label-rms": {"metric": "label_logprob_delta", "statistic": "rms", "at_most": 1e-3},
    "one-position": {"metric": "kl_divergence", "scope": "position 2", "at_most": 1e-6},
    "kl-median": {"metric": "kl_divergence", "statistic": "median", "at_most": 1e-3},
}


def lines_of(report: Any, folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Failures().render(report, folder).read_text("utf-8").splitlines()]


@pytest.mark.parametrize("name", GATES)
def test_a_gate_that_fails_has_its_lines(project: Any, tmp_path: Path, name: str) -> None:
    gate = {"id": name, "basis": BASIS, **GATES[name]}
    report = project.check(candidates={"noisy": project.toy(noise=2.0)}, bands=WIDE_BAND, gates=[gate])
    assert [verdict.status for verdict in report.verdict.gates] == ["FAIL"]
    lines = lines_of(report, tmp_path)
    assert lines and all(line["gates"] == [name] for line in lines)
    metric, bound = gate["metric"], gate.get("at_most", gate.get("at_least"))
    expected = 0
    for cell, rows in report.compared.items():
        for row in rows:
            values = row.comparison.metrics[metric]
            chosen = values[2:3] if name == "one-position" else values
            beyond = np.abs(chosen) if gate.get("statistic") == "rms" else chosen
            expected += int((beyond > bound).sum() if "at_most" in gate else (beyond < bound).sum())
        assert cell.mode == "prefill"
    assert len(lines) == expected


def test_a_line_has_what_people_grep_for(project: Any, tmp_path: Path) -> None:
    gate = {"id": "top1", "basis": BASIS, **GATES["top1"]}
    report = project.check(candidates={"noisy": project.toy(noise=2.0)}, bands=WIDE_BAND, gates=[gate])
    for line in lines_of(report, tmp_path):
        assert {"model", "quantization", "mode", "isa", "prompt_idx", "token_idx", "delta"} <= set(line)
        for side in ("top5_reference", "top5_candidate"):
            assert len(line[side]) == 5 and all({"id", "text", "logit"} == set(entry) for entry in line[side])
        assert line["top5_reference"][0]["id"] != line["top5_candidate"][0]["id"]
        (broken,) = line["breaks"]
        assert (broken["what"], broken["gate"], broken["operator"]) == ("gate", "top1", "at_least")
        assert (broken["observed"], broken["bound"]) == (0.0, 1.0)


def test_a_whole_prompt_that_fails_has_the_line_where_both_part(project: Any, tmp_path: Path) -> None:
    gate = {"id": "greedy", "metric": "first_divergence", "statistic": "min", "at_least": 6, "basis": BASIS}
    noisy = {"noisy": project.toy(noise=4.0)}
    report = project.check(candidates=noisy, bands=WIDE_BAND, gates=[gate], matrix={"mode": ["greedy"]})
    assert report.verdict.status == "FAIL"
    for line in lines_of(report, tmp_path):
        assert line["gates"] == ["greedy"]
        assert line["token_idx"] == line["breaks"][0]["observed"]


def test_positions_outside_of_the_band_have_lines_and_say_so(project: Any, tmp_path: Path) -> None:
    report = project.check(
        candidates={"noisy": project.toy(noise=1.0)},
        gates=[{"id": "kl", "metric": "kl_divergence", "at_most": 99.0, "basis": BASIS}],
    )
    lines = lines_of(report, tmp_path)
    assert len(lines) == sum(cell.counts.get("WRONG", 0) for cell in report.verdict.cells) > 0
    assert all(line["gates"] == [] and line["breaks"][0]["what"] == "band" for line in lines)


def test_a_run_that_passes_has_no_line(project: Any, tmp_path: Path) -> None:
    assert lines_of(project.check(), tmp_path) == []


def test_a_position_that_breaks_two_gates_has_one_line(project: Any, tmp_path: Path) -> None:
    gates = [{"id": name, "basis": BASIS, **GATES[name]} for name in ("top1", "kl")]
    lines = lines_of(project.check(candidates={"noisy": project.toy(noise=2.0)}, bands=WIDE_BAND, gates=gates), tmp_path)
    places = [(line["prompt_idx"], line["token_idx"]) for line in lines]
    assert len(places) == len(set(places))
    assert any(line["gates"] == ["top1", "kl"] for line in lines)
