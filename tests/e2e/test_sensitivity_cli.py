"""`logitproof sensitivity` as a user types it: a report, a plan, a run that goes on, and mistakes that are one sentence."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import jsonschema
import pytest

ROOT = Path(__file__).parents[2]
LLAMA = ROOT / "zoo/llama3"
SCHEMA = ROOT / "src/logitproof/report/schemas/sensitivity.schema.json"
FAST = ["--type", "Q4_0", "--windows", "2", "--tokens", "6"]


def run(folder: Path, *words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "logitproof", "sensitivity", *map(str, words)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)


def test_a_report_a_picture_a_plan_and_an_answer(tmp_path: Path) -> None:
    words = [LLAMA, *FAST, "--type", "Q8_0", "--budget", "6bpw", "--tensor-type-file", "types.txt", "--json"]
    first = run(tmp_path, *words)
    assert first.returncode == 0, first.stderr
    answer = json.loads(first.stdout)
    jsonschema.validate(answer, json.loads(SCHEMA.read_text()))
    assert (answer["kind"], answer["positions"]) == ("sensitivity", 10)
    assert answer["plan"]["bytes"] <= answer["plan"]["budget"]
    lines = (tmp_path / "types.txt").read_text().split()
    assert len(lines) == len(answer["plan"]["types"]) and all(line.startswith("^") and "$=q" in line for line in lines)
    folder = tmp_path / "sensitivity-llama3"
    assert {file.name for file in folder.iterdir()} >= {"sensitivity.json", "sensitivity.svg", "report.html", "report.md"}
    assert (folder / "sensitivity.svg").read_text().startswith("<svg")
    before = (folder / "results.jsonl").read_text()
    again = run(tmp_path, *words)
    assert json.loads(again.stdout)["costs"] == answer["costs"]
    assert (folder / "results.jsonl").read_text() == before, "nothing is measured twice"


def test_what_was_interrupted_goes_on(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "logitproof", "sensitivity", str(LLAMA), *FAST, "--out", "out"]
    results = tmp_path / "out/results.jsonl"
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 240
    while time.monotonic() < until and not (results.is_file() and results.read_text().count("\n") >= 2):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, words = process.communicate(timeout=60)
    if process.returncode == 0:
        pytest.skip("it had ended before it could be interrupted")
    assert process.returncode == 130 and "run the same command to continue" in words
    kept = results.read_text()
    assert run(tmp_path, LLAMA, *FAST, "--out", "out").returncode == 0
    assert results.read_text().startswith(kept)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["nothing-here"], "no such file or folder"),
        ([str(LLAMA), "--type", "Q4"], "no quantization is called 'Q4'"),
        ([str(LLAMA), *FAST, "--budget", "5MB"], "only one is named"),
        ([str(LLAMA), *FAST, "--type", "Q8_0", "--budget", "lots"], "is no budget"),
        ([str(LLAMA), *FAST, "--type", "Q8_0", "--budget", "1KB"], "the lightest types weigh"),
        ([str(LLAMA), *FAST, "--tensor-type-file", "x.txt"], "there is a plan only within a budget"),
        ([str(LLAMA), *FAST, "--text", "absent.txt"], "absent.txt"),
        ([str(LLAMA / "config.json"), *FAST], "neither a Hugging Face folder nor a GGUF file"),
        ([str(LLAMA), "--windows", "0"], "--windows"),
    ],
)
def test_a_mistake_is_one_sentence(tmp_path: Path, words: list[str], text: str) -> None:
    refused = run(tmp_path, *words)
    assert refused.returncode == 2, refused.stdout + refused.stderr
    assert text in refused.stderr and "Traceback" not in refused.stderr
    assert not (tmp_path / "x.txt").exists()
