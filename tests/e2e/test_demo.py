"""The main job as a user types it: two real engines, two models, one planted bug."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pyarrow.parquet as pq
import pytest

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "examples" / "demo.parity.yaml"
FILES = ("verdict.json", "positions.parquet", "failures.jsonl", "report.md", "junit.xml")


def logitproof(*words: object, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "logitproof", *map(str, words)]
    return subprocess.run(argv, capture_output=True, text=True, cwd=cwd, timeout=300, check=False)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    out = tmp_path_factory.mktemp("demo")
    return out, logitproof("check", DEMO, "--out", out, "--parallel", 2)


def cells(out: Path) -> dict[str, dict[str, Any]]:
    return {cell["id"]: cell for cell in json.loads((out / "verdict.json").read_text())["cells"]}


def test_the_demo_passes_and_says_where_to_look(demo: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    out, done = demo
    assert done.returncode == 0, done.stdout + done.stderr
    assert "PASS" in done.stdout
    assert "report.md" in done.stdout
    assert "next:" in done.stdout
    assert "Traceback" not in done.stderr
    assert [name for name in FILES if not (out / name).is_file()] == []


@pytest.mark.parametrize("model", ["qwen3", "llama3"])
@pytest.mark.parametrize("mode", ["prefill", "decode"])
def test_float32_engines_agree_to_a_millionth_of_a_nat(demo: tuple[Path, Any], model: str, mode: str) -> None:
    cell = cells(demo[0])[f"llamacpp/{model}/F32/{mode}"]
    assert cell["positions"] >= 200
    assert cell["metrics"]["kl_divergence"]["mean"] <= 1e-6
    assert cell["metrics"]["top1"]["mean"] == 1.0
    assert cell["status"] == "MATCH"


@pytest.mark.parametrize("model", ["qwen3", "llama3"])
def test_the_planted_bug_is_wrong_and_its_gates_fail(demo: tuple[Path, Any], model: str) -> None:
    name = f"planted-bug/{model}/original/prefill"
    cell = cells(demo[0])[name]
    assert cell["status"] == "WRONG"
    assert cell["metrics"]["kl_divergence"]["mean"] > 0.1
    gates = json.loads((demo[0] / "verdict.json").read_text())["gates"]
    assert {gate["status"] for gate in gates if gate["cell"] == name} == {"FAIL"}


def test_quantization_costs_what_it_costs_and_no_more(demo: tuple[Path, Any]) -> None:
    """Between the float32 noise and a bug, in the order of the bits."""
    found = cells(demo[0])
    for model in ("qwen3", "llama3"):
        exact, eight, four = (
            found[f"llamacpp/{model}/{quantization}/prefill"]["metrics"]["kl_divergence"]["mean"]
            for quantization in ("F32", "Q8_0", "Q4_K_M")
        )
        assert exact < 1e-9 < 1e-4 < eight < 0.01 < four < 0.2


def test_every_file_agrees_with_the_verdict(demo: tuple[Path, Any]) -> None:
    out, _ = demo
    found = cells(out)
    table = pq.read_table(out / "positions.parquet")
    assert table.num_rows == sum(cell["positions"] for cell in found.values())
    wrong = sum(cell["counts"].get("WRONG", 0) for cell in found.values())
    lines = [json.loads(line) for line in (out / "failures.jsonl").read_text().splitlines()]
    assert len(lines) == wrong > 0
    assert {"model", "quantization", "prompt_idx", "token_idx", "top5_reference", "top5_candidate", "delta"} <= set(lines[0])
    suites = ET.parse(out / "junit.xml").getroot()
    assert {suite.get("name") for suite in suites} >= set(found)
    report = (out / "report.md").read_text()
    assert all(cell in report for cell in found)


def test_a_second_run_measures_nothing_again(demo: tuple[Path, Any]) -> None:
    out, _ = demo
    before = sorted((out / "store" / "traces").glob("*/*/trace.json"))
    stamps = [path.stat().st_mtime_ns for path in before]
    assert logitproof("check", DEMO, "--out", out).returncode == 0
    assert [path.stat().st_mtime_ns for path in before] == stamps


def test_a_run_is_judged_again_without_engines(demo: tuple[Path, Any], tmp_path: Path) -> None:
    text = DEMO.read_text().replace("at_most: 0.01", "at_most: 0.00001").replace("../zoo", str(ROOT / "zoo"))
    tight = tmp_path / "tight.yaml"
    tight.write_text(text)
    out, _ = demo
    done = logitproof("judge", out, "--contract", tight, "--json")
    verdict = json.loads(done.stdout)
    assert done.returncode == 1
    assert {gate["id"] for gate in verdict["gates"] if gate["status"] == "FAIL" and not gate["control"]} == {"q8-kl"}
    assert logitproof("judge", out).returncode == 0


def test_a_killed_run_continues(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "logitproof", "check", str(DEMO), "--out", str(tmp_path), "--only", "llamacpp/qwen3/F32/*"]
    begun = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    traces = tmp_path / "store" / "traces"
    deadline = time.monotonic() + 120
    while len(list(traces.glob("*/*/trace.json"))) < 8 and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(begun.pid, signal.SIGKILL)
    begun.wait()
    kept = {path: path.stat().st_mtime_ns for path in traces.glob("*/*/trace.json")}
    assert len(kept) >= 8
    done = logitproof("check", DEMO, "--out", tmp_path, "--only", "llamacpp/qwen3/F32/*")
    assert done.returncode == 0, done.stdout + done.stderr
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert not list((tmp_path / "store" / "partial").iterdir())


def test_an_engines_own_decode_agrees_with_its_own_prefill(tmp_path: Path) -> None:
    contract = tmp_path / "self.yaml"
    contract.write_text(
        f"""
contract: self
reference: {{engine: transformers, options: {{threads: 1}}}}
candidates: {{llamacpp: {{engine: llamacpp}}}}
models: {{qwen3.5: {{original: {ROOT}/zoo/qwen3.5, F32: {ROOT}/zoo/gguf/qwen3.5-F32.gguf}}}}
suites: [smoke-10]
matrix: {{quantization: [F32], mode: [self, decode]}}
bands: [{{match: 1.0e-4, wrong: 1.0e-2, basis: "one engine against itself in float32"}}]
gates: [{{id: kl, metric: kl_divergence, statistic: max, at_most: 1.0e-6, basis: "float32 rounding alone"}}]
"""
    )
    done = logitproof("check", contract, "--out", tmp_path / "run", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    found = {cell["id"]: cell for cell in json.loads(done.stdout)["cells"]}
    assert found["llamacpp/qwen3.5/F32/self"]["reference"] == "llamacpp (its own prefill)"
    assert found["llamacpp/qwen3.5/F32/self"]["positions"] >= 200
