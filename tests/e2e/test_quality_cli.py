"""Commands about generation quality, as a user types them, on llama.cpp and the zoo."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from logitproof.report import schema

ZOO = Path(__file__).parents[2] / "zoo"
QWEN3 = f"llamacpp:{ZOO}/gguf/qwen3-F16.gguf?threads=1"


def fits(said: dict[str, Any], kind: str) -> None:
    assert said["kind"] == kind
    jsonschema.validate(said, json.loads(schema.path(kind).read_text("utf-8")))


def run(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "logitproof", *args], capture_output=True, text=True, timeout=300, check=False)


def test_two_models_of_one_engine_are_two_tokenizers() -> None:
    other = f"llamacpp:{ZOO}/gguf/llama3-F16.gguf?threads=1"
    found = run("tokenizer", QWEN3, other, "--fuzzed", "0", "--json")
    said = json.loads(found.stdout)
    fits(said, "tokenizer")
    assert found.returncode == 1 and len(said["differences"]) > 10, "one process would hold the second model alone"
    assert run("tokenizer", QWEN3, QWEN3, "--fuzzed", "5").returncode == 0


def test_a_suite_is_picked_for_a_reference_and_opened_again(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(
        "suite: mine\nprompts:\n  - {id: a, bucket: code, text: 'def f(x):'}\n  - {id: b, bucket: chat, text: 'User: Hello'}\n"
    )
    out, options = tmp_path / "free.yaml", ("--suite", str(tmp_path / "mine.yaml"), "--tokens", "2")
    found = run("suite", "pick", QWEN3, *options, "--tie", "1e-6", "--out", str(out))
    assert found.returncode == 0 and "0 of 2 prompts hang on a tie" in found.stdout
    assert "frozen" in run("suite", "show", str(out)).stdout
    again = run("suite", "pick", QWEN3, *options, "--tie", "100", "--out", str(tmp_path / "none.yaml"), "--json")
    said = json.loads(again.stdout)
    fits(said, "suite-pick")
    assert again.returncode == 1 and [one["reserve"] for one in said["hanging"]] == [None, None] and said["tried"] > 20


def test_a_seeded_sampler_of_llama_cpp_is_foretold_from_another_languages_generator() -> None:
    small = ("--completions", "4", "--tokens", "4", "--permutations", "99", "--json")
    found = run("sample", QWEN3, QWEN3, *small)
    said = json.loads(found.stdout)
    fits(said, "sample")
    assert said["replay"]["draws"] > 1000 and not said["replay"]["faults"]
    assert said["replay"]["equal"] > 0.98 * said["replay"]["draws"]


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ('{"question": "q", "choices": ["a", "b"], "answer": 5}', "the answer 5 is none of 2 choices"),
        ("", "holds no question"),
    ],
)
def test_a_task_that_asks_nothing_is_refused_before_an_engine_starts(line: str, text: str, tmp_path: Path) -> None:
    (tmp_path / "task.jsonl").write_text(line)
    found = run("evaluate", QWEN3, "--tasks", str(tmp_path / "task.jsonl"))
    assert found.returncode == 2 and text in found.stderr
