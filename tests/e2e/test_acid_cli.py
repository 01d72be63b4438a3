"""`logitproof acid` as a user types it."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np


def logitproof(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "logitproof", "acid", *arguments], capture_output=True, text=True, check=False)


def test_a_right_engine_passes_and_leaves_its_report(tmp_path: Path) -> None:
    done = logitproof("llamacpp", "--arch", "qwen3,gemma3", "--out", str(tmp_path / "out"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "PASS          qwen3" in done.stdout
    report = json.loads((tmp_path / "out" / "acid.json").read_text("utf-8"))
    assert report["weights"] == "F32" and {row["check"] for row in report["rows"]} >= {"qwen3", "gemma3", "twice = once"}


def test_json_stands_alone_on_stdout() -> None:
    done = logitproof("llamacpp", "--arch", "qwen3", "--json")
    assert json.loads(done.stdout)["exit_code"] == done.returncode == 0


def test_mistakes_of_the_command_line_end_with_2() -> None:
    assert logitproof("llamacpp", "--arch", "nonsense").returncode == 2
    assert logitproof("nonsense").returncode == 2
    assert logitproof("llamacpp", "-o", "threads").returncode == 2
    assert logitproof("export").returncode == 2
    assert logitproof("llamacpp", "somewhere").returncode == 2


def test_exported_probes_can_be_read_with_nothing_but_their_readme(tmp_path: Path) -> None:
    folder = tmp_path / "probes"
    assert logitproof("export", str(folder), "--arch", "qwen3,llama-gelu").returncode == 0
    assert "silu" in json.loads((folder / "llama-gelu" / "probe.json").read_text("utf-8"))["gguf"]["absent"]
    for entry in (folder / "MANIFEST.sha256").read_text("utf-8").splitlines():
        digest, name = entry.split("  ")
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
    probe = json.loads((folder / "qwen3" / "probe.json").read_text("utf-8"))
    for case in probe["cases"]:
        expected = np.fromfile(folder / "qwen3" / case["expected"]["file"], "<f4").reshape(case["expected"]["shape"])
        positions = np.fromfile(folder / "qwen3" / case["positions"]["file"], "<i4")
        tokens = np.fromfile(folder / "qwen3" / case["tokens"]["file"], "<i4")
        assert expected.shape == (len(positions), probe["vocab_size"])
        assert positions.max() < len(tokens) == case["tokens"]["shape"][0]
    assert logitproof("export", str(folder)).returncode == 2, "a folder that holds something is not overwritten"
