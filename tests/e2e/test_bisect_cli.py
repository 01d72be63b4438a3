"""`logitproof bisect` from a shell: a program that speaks the protocol, and a git repository of an engine with a bad commit."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

LAYERS, BAD_LAYER = 6, 3
BASIS = "a test of what is found, whose errors are a thousand times larger"
ENGINE = """\
import json, struct, sys
V, BIAS = 300, {bias}
options = {{}}
def row(token):
    rows = [((token * 31 + n * 7) % 97) / 10 for n in range(V)]
    off = 1e-6 + BIAS
    for layer in range({layers}):
        if "float32_layers" in options and layer not in options["float32_layers"]:
            off += 1.5 if layer == {bad} else 1e-6
    off += 1.5 * bool(options.get("fast")) + (options.get("block", 0) >= 64)
    return [value + off * (n % 2) for n, value in enumerate(rows)]
def write(path, rows):
    with open(path, "wb") as file:
        for values in rows:
            file.write(struct.pack(f"<{{V}}f", *values))
    return {{"path": path, "dtype": "float32", "shape": [len(rows), V]}}
def answer(method, p):
    if method == "hello":
        options.update(p.get("options") or {{}})
        return {{"protocol": 1, "engine": "mine", "versions": {{"mine": "1"}}, "generate": True, "tokenize": True}}
    if method == "tokenize":
        return {{"token_ids": [1 + byte for byte in p["text"].encode()]}}
    if method == "detokenize":
        return {{"text": "".join(chr(token) for token in p["token_ids"])}}
    if method == "load":
        return {{"vocab_size": V}}
    if method == "score":
        return {{"logits": write(p["logits"], [row(token) for token in p["token_ids"]])}}
    if method == "generate":
        ids, rows = list(p["token_ids"]), []
        for _ in range(p["max_new_tokens"]):
            rows.append(row(ids[-1]))
            ids.append(rows[-1].index(max(rows[-1])))
        return {{"token_ids": ids[len(p["token_ids"]):], "logits": write(p["logits"], rows), "finish": "length"}}
    return {{}}
for line in sys.stdin:
    request = json.loads(line)
    print(json.dumps({{"id": request["id"], "result": answer(request["method"], request["params"])}}), flush=True)
"""


def engine(bias: float = 0.0) -> str:
    return ENGINE.format(bias=bias, layers=LAYERS, bad=BAD_LAYER)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A contract of two programs: the reference as it should be, and the candidate in a folder of its own."""
    (tmp_path / "right.py").write_text(engine(-1e-6))
    (tmp_path / "engine").mkdir()
    (tmp_path / "engine/mine.py").write_text(engine())
    (tmp_path / "toy.json").write_text('{"vocab_size": 300}')
    prompts = [{"id": "p", "text": "hello there"}]
    (tmp_path / "suite.yaml").write_text(yaml.safe_dump({"suite": "suite", "max_new_tokens": 2, "prompts": prompts}))
    contract: dict[str, Any] = {
        "contract": "mine",
        "reference": {"engine": "command", "options": {"argv": [sys.executable, "right.py"]}},
        "candidates": {"mine": {"engine": "command", "options": {"argv": [sys.executable, "engine/mine.py"]}}},
        "models": {"m": {"original": "toy.json"}},
        "suites": ["suite.yaml"],
        "matrix": {"mode": ["prefill"]},
        "bands": [{"match": 1e-3, "wrong": 1e-1, "basis": BASIS}],
        "gates": [{"id": "kl", "metric": "kl_divergence", "at_most": 1e-4, "basis": BASIS}],
    }
    (tmp_path / "c.parity.yaml").write_text(yaml.safe_dump(contract))
    return tmp_path


def run(folder: Path, *words: object, code: int = 0) -> Any:
    """What the command prints as JSON, or all its words where it fails."""
    argv = [sys.executable, "-m", "logitproof", "bisect", *map(str, words)]
    environment = {**os.environ, "LOGITPROOF_HISTORY": "off", "COLUMNS": "300"}
    done = subprocess.run(argv, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return json.loads(done.stdout) if code == 0 else done.stdout + done.stderr


def test_the_layer_whose_precision_breaks_a_program_is_found(folder: Path) -> None:
    found = run(folder, "layers", "c.parity.yaml", "mine", "float32_layers", LAYERS, "--json")
    assert found["subject"] == f"layer {BAD_LAYER} is not computed in float32"
    assert found["first"] == f"layers from {BAD_LAYER + 1} on in float32" and len(found["tried"]) < LAYERS


def test_the_option_of_a_program_that_breaks_it_is_found(folder: Path) -> None:
    found = run(folder, "options", "c.parity.yaml", "mine", "block=32", "threads=2", "fast=true", "seed=1", "--json")
    assert found["subject"] == "fast = True"


def test_the_first_bad_value_of_a_program_is_found(folder: Path) -> None:
    found = run(folder, "values", "c.parity.yaml", "mine", "block", 8, 16, 32, 64, 128, "--json")
    assert found["first"] == "block = 64"


def test_a_program_that_does_not_know_the_option_is_not_bad_by_it(folder: Path) -> None:
    words = run(folder, "layers", "c.parity.yaml", "mine", "wide_layers", LAYERS, code=2)
    assert "is not bad with layers from 6 on in float32" in " ".join(words.split())


@pytest.fixture
def commits(folder: Path) -> list[str]:
    """The commits of the candidate's repository: the fourth of six puts an error in, the third does not run at all."""
    git = shutil.which("git")
    assert git is not None
    repository = folder / "engine"

    def call(*words: str) -> str:
        author = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
        done = subprocess.run([str(git), *author, "-C", str(repository), *words], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    call("init", "-q")
    made = []
    for number in range(1, 7):
        text = "raise SystemExit('does not build')\n" if number == 2 else engine(1.5 if number >= 4 else 0.0)
        (repository / "mine.py").write_text(f"{text}# {number}\n")
        call("add", ".")
        call("commit", "-qm", f"change {number}")
        made.append(call("rev-parse", "HEAD"))
    return made


def test_the_first_bad_commit_is_found_past_one_that_does_not_build(folder: Path, commits: list[str]) -> None:
    build = ["--", sys.executable, "-m", "py_compile", "mine.py"]
    words = ["c.parity.yaml", "--good", commits[0], "--bad", commits[-1], "--repo", "engine", "--json", *build]
    found = run(folder, "commits", *words)
    assert found["first"] == commits[3] and found["subject"] == "change 4"
    head = (folder / "engine/mine.py").read_text()
    assert head.endswith("# 6\n"), "the repository is as it was"


def test_changed_files_are_not_lost(folder: Path, commits: list[str]) -> None:
    (folder / "engine/mine.py").write_text("my work of today")
    words = ["commits", "c.parity.yaml", "--good", commits[0], "--bad", commits[-1], "--repo", "engine", "--", "true"]
    assert "has files that were changed" in run(folder, *words, code=2)
    assert (folder / "engine/mine.py").read_text() == "my work of today"
