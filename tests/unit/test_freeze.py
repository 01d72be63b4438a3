"""Goldens: the stated error is measured, and a run against one needs neither model nor torch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from logitproof.contract.opened import open_contract
from logitproof.errors import ContractError
from logitproof.golden.compare import compare_dumps
from logitproof.golden.freeze import Frozen, freeze
from logitproof.golden.writer import Limits
from logitproof.jobs.capture import capture
from logitproof.readers import convert, open_dump
from logitproof.rows.bounds import known_logits
from logitproof.runs.check import check
from logitproof.traces.capture import open_capture
from logitproof.traces.store import Store

SUITE = """
suite: tiny
max_new_tokens: 5
prompts:
  - {id: a, text: "hello there"}
  - {id: b, text: "once upon a time"}
"""
CONTRACT = """
contract: toy
reference: {engine: REFERENCE}
candidates: {mine: {engine: toy, options: {noise: NOISE}}}
models: {m: {original: ORIGINAL, F32: model.json}}
suites: [suite.yaml]
matrix: {quantization: [F32], mode: [prefill, decode, greedy]}
bands: [{match: 1.0e-4, wrong: 1.0e-2, basis: "a toy in float64, written as float32"}]
gates: [{id: kl, metric: kl_divergence, at_most: 1.0e-6, basis: "the golden states its error"}]
"""


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    """A folder with a toy model, a suite and a contract."""
    (tmp_path / "model.json").write_text('{"vocab_size": 700, "seed": 1}')
    (tmp_path / "suite.yaml").write_text(SUITE)
    contract(tmp_path, "toy", "model.json")
    return tmp_path


def contract(folder: Path, reference: str, original: str, noise: float = 0.0, name: str = "toy.parity.yaml") -> Path:
    text = CONTRACT.replace("REFERENCE", reference).replace("ORIGINAL", original).replace("NOISE", str(noise))
    (folder / name).write_text(text)
    return folder / name


def frozen(toy: Path, **options: object) -> Frozen:
    return freeze(toy / "toy.parity.yaml", toy / "ref.golden", store=Store(toy / "store"), **options)  # type: ignore[arg-type]


def divergence(a: np.ndarray, b: np.ndarray) -> float:
    p, q = known_logits(a).log_p, known_logits(b).log_p
    return float(np.sum(np.exp(p) * (p - q)))


def test_the_stated_error_is_what_is_measured_and_the_best_are_exact(toy: Path) -> None:
    made = frozen(toy)
    dump = open_dump(made.path)
    assert dump.format == "golden"
    store = Store(toy / "store")
    traces = [store.read(path.parent.name) for path in (toy / "store").glob("traces/*/*/trace.json")]
    exact = {tuple(trace.token_ids): trace for trace in traces if trace is not None and trace.kind == "score"}
    worst = 0.0
    for prompt in dump.prompts:
        rows = exact[tuple(prompt.token_ids)].logits
        for n, row in enumerate(rows):
            best = np.argsort(-row, kind="stable")[:64]
            assert np.array_equal(prompt.logits[n][best], row[best])
            worst = max(worst, divergence(row, prompt.logits[n]))
    assert worst == pytest.approx(made.header.error["kl_max"], rel=1e-6, abs=1e-15)
    assert worst <= 1e-6
    assert made.header.error["rms_max"] <= 3e-5
    assert made.bytes_per_token < 4 * 700


def test_an_error_that_cannot_be_kept_is_refused_and_nothing_is_left(toy: Path) -> None:
    with pytest.raises(ContractError, match="allowed are 1e-06 and 1e-12"):
        frozen(toy, limits=Limits(rms_error=1e-12))
    assert not list(toy.glob("*golden*"))


def test_fewer_bits_are_taken_where_they_are_enough(toy: Path) -> None:
    wide, narrow = frozen(toy), frozen(toy, limits=Limits(kl_error=1e-2, rms_error=1.0))
    assert narrow.size < wide.size / 1.5


def test_a_run_against_a_golden_passes_without_torch_and_sees_a_bug(toy: Path) -> None:
    frozen(toy)
    (toy / "torch").mkdir()
    (toy / "transformers").mkdir()
    for name in ("torch", "transformers"):
        (toy / name / "__init__.py").write_text("raise RuntimeError('imported by a run against a golden')")
    for noise, code in ((0.0, 0), (0.5, 1)):
        path = contract(toy, "golden", "ref.golden", noise, "golden.parity.yaml")
        done = subprocess.run(
            [sys.executable, "-m", "logitproof", "check", str(path), "--out", str(toy / f"run{code}"), "--json"],
            env={**os.environ, "PYTHONPATH": str(toy)},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == code, done.stderr + done.stdout[-3000:]
        assert json.loads(done.stdout)["status"] == ("PASS" if code == 0 else "FAIL")


def test_a_golden_refuses_other_prompts_and_other_weights(toy: Path) -> None:
    frozen(toy)
    path = contract(toy, "golden", "ref.golden", name="other.parity.yaml")
    (toy / "suite.yaml").write_text(SUITE.replace("hello", "goodbye"))
    report = check(open_contract(path), Store(toy / "other"))
    assert (report.verdict.status, report.verdict.exit_code) == ("ERROR", 2)
    (toy / "suite.yaml").write_text(SUITE)
    (toy / "else.json").write_text('{"vocab_size": 700, "seed": 2}')
    text = contract(toy, "golden", "else.json", name="weights.parity.yaml").read_text()
    (toy / "weights.parity.yaml").write_text(text.replace("{engine: golden}", "{engine: golden, options: {path: ref.golden}}"))
    report = check(open_contract(toy / "weights.parity.yaml"), Store(toy / "weights"))
    assert report.verdict.exit_code == 2
    failures = [failure.text for cell in report.verdict.cells for failure in cell.failures]
    assert any("was frozen from weights" in text for text in failures)


def test_a_small_golden_keeps_its_promise_of_bytes_and_gives_bounds(toy: Path) -> None:
    small = frozen(toy, small=True)
    header = small.header
    payload = small.size - 8 - int.from_bytes(small.path.read_bytes()[:8], "little")
    assert payload / small.positions <= 200
    assert header.error["kl_upper_max"] is not None
    assert header.error["kl_lower_max"] < 1e-6
    reference = open_dump(small.path)
    full = frozen(toy)
    noisy = capture("toy", toy / "model.json", str(toy / "suite.yaml"), toy / "noisy", options={"noise": 0.3})
    assert noisy.positions
    same = compare_dumps(reference, open_dump(full.path))
    assert same["metrics"]["kl_divergence_lower"]["max"] < 1e-6
    assert same["metrics"]["kl_divergence_upper"]["max"] == pytest.approx(header.error["kl_upper_max"], rel=0.05)
    assert "kl_divergence" in same["not_measured"]


def test_the_whole_small_file_keeps_its_promise_once_the_suite_is_not_tiny(toy: Path) -> None:
    (toy / "suite.yaml").write_text(SUITE.replace("max_new_tokens: 5", "max_new_tokens: 120"))
    small = frozen(toy, small=True)
    assert small.positions > 150
    assert small.bytes_per_token <= 200


def test_a_small_golden_gives_no_verdict_and_says_what_it_gives(toy: Path) -> None:
    frozen(toy, small=True)
    report = check(open_contract(contract(toy, "golden", "ref.golden", name="small.parity.yaml")), Store(toy / "x"))
    assert report.verdict.exit_code == 2
    assert any("a verdict cannot be given" in one.text for cell in report.verdict.cells for one in cell.failures)


def test_a_capture_is_frozen_with_its_texts_and_hashes(toy: Path) -> None:
    made = capture("toy", toy / "model.json", str(toy / "suite.yaml"), toy / "capture")
    golden = freeze(toy / "capture", toy / "c.golden")
    opened, _ = open_capture(toy / "capture")
    assert golden.header.model_sha256 == opened.model_sha256
    assert golden.positions == made.positions
    assert "no option `threads`" in golden.header.determinism["said"]
    assert convert(toy / "capture", toy / "c.jsonl").format == "capture"


def test_prompts_with_margins_inside_the_noise_are_listed(toy: Path) -> None:
    assert frozen(toy).header.uncertain == []
    listed = frozen(toy, limits=Limits(margin_floor=1e6)).header.uncertain
    assert [one["prompt"] for one in listed] == ["a", "b"]
    assert all(0 < one["margin"] < 1e6 and one["position"] > 0 for one in listed)


@pytest.mark.parametrize("cut", [4, 200, -5])
def test_a_damaged_golden_is_refused(toy: Path, cut: int) -> None:
    path = frozen(toy).path
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(ContractError) as caught:
        open_dump(path, "golden")
    assert str(path) in caught.value.where
    assert caught.value.remedy
