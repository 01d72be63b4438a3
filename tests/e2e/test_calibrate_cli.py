"""`logitproof calibrate` and `logitproof kernels` as a user types them, on a model of the zoo."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ZOO = Path(__file__).parents[2] / "zoo"
CONTRACT = """\
contract: calculated
reference: {engine: transformers, options: {dtype: float32, threads: 1}}
candidates:
  narrow: {engine: transformers, options: {dtype: bfloat16, threads: 1}}
models: {qwen3: {original: %s}}
suites: [suite.yaml]
matrix: {mode: [prefill]}
error_bar: {vary: [decode]}
bands: [{bound: calibrated, basis: "what rounding to bfloat16 makes of float32"}]
gates: [{id: kl, metric: kl_divergence, at_most: calibrated, basis: "what rounding to bfloat16 makes of float32"}]
"""
SUITE = """\
suite: one
max_new_tokens: 4
prompts: [{id: a, text: "The lighthouse stood at the end of the pier, and every evening the keeper"}]
"""


def logitproof(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "logitproof", *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(argv, cwd=folder, capture_output=True, text=True, timeout=600, check=False, env=environment)


def test_a_contract_is_calibrated_and_then_judged_by_it(tmp_path: Path) -> None:
    (tmp_path / "c.parity.yaml").write_text(CONTRACT % (ZOO / "qwen3"))
    (tmp_path / "suite.yaml").write_text(SUITE)
    done = logitproof(tmp_path, "calibrate", "c.parity.yaml", "--runs", "3")
    assert done.returncode == 0, done.stderr
    assert "bound: calibrated" in done.stdout and "rounding of bfloat16" in done.stdout
    assert len(list((tmp_path / "c.parity.bands").glob("*.npz"))) == 1
    checked = logitproof(tmp_path, "check", "c.parity.yaml", "--json")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    verdict = json.loads(checked.stdout)
    cell, gate = verdict["cells"][0], verdict["gates"][0]
    assert 1e-3 < cell["band"]["match"] < 0.2 and "calculated" in cell["band"]["basis"]
    assert gate["observed"] < gate["bound"] < 100 * gate["observed"]


def test_a_verdict_says_what_its_gates_would_catch(tmp_path: Path) -> None:
    """Also where the bound is typed; an engine against itself would have a bug on both sides, so nothing is said of it."""
    text = CONTRACT.replace("mode: [prefill]", "mode: [prefill, self]") % (ZOO / "qwen3")
    loose = '[{id: kl, metric: kl_divergence, at_most: 5.0, basis: "somebody typed this number"}]'
    (tmp_path / "c.parity.yaml").write_text(text.partition("gates:")[0] + f"gates: {loose}\n")
    (tmp_path / "suite.yaml").write_text(SUITE)
    done = logitproof(tmp_path, "calibrate", "c.parity.yaml", "--runs", "2", "--power")
    assert done.returncode == 0, done.stderr
    assert "would catch" in done.stdout and "mode: self}" in done.stdout
    checked = logitproof(tmp_path, "check", "c.parity.yaml", "--json")
    verdict = json.loads(checked.stdout)
    cells = {cell["mode"]: cell for cell in verdict["cells"]}
    gates = {gate["cell"].rpartition("/")[2]: gate for gate in verdict["gates"]}
    assert cells["prefill"]["status"] == "MATCH" and cells["self"]["status"] == "MATCH"
    band, gate = cells["prefill"]["power"], gates["prefill"]["power"]
    assert band["known"] > 80 and band["caught"] > 70 and 0.3 < band["weakest_size"] < 10
    assert gate["caught"] < 0.5 * gate["known"] and len(gate["missed"]) > 30
    assert cells["self"]["power"] is None and gates["self"]["power"] is None


def test_kernels_are_measured_at_the_shapes_of_the_model(tmp_path: Path) -> None:
    done = logitproof(tmp_path, "kernels", str(ZOO / "qwen3"), "--dtype", "bfloat16", "--out", "k.json")
    assert done.returncode == 0, done.stderr
    measured = json.loads((tmp_path / "k.json").read_text())
    kernels = measured["kernels"]
    assert measured["format"] == 1 and {one["precision"] for one in kernels} == {"bfloat16"}
    assert {"matmul", "norm", "softmax", "attention", "rope", "activation"} <= {one["kind"] for one in kernels}
    matmul = [one for one in kernels if one["kind"] == "matmul"]
    assert all(5e-4 < one["rms"] < 5e-3 and 0.5 < one["assumed"] / one["rms"] < 2 for one in matmul)
