"""A GGUF file and nothing else comes to a verdict by two commands, as a person would type them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

FILE = Path(__file__).parents[2] / "zoo/gguf/llama3-Q8_0.gguf"


@pytest.mark.skipif(not FILE.is_file(), reason="`make zoo` makes the GGUF files")
def test_a_file_alone_is_checked_by_two_commands(tmp_path: Path) -> None:
    def run(*words: str) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-m", "logitproof", *words]
        environment = {**os.environ, "LOGITPROOF_DERIVED": str(tmp_path / "derived"), "LOGITPROOF_HISTORY": "off"}
        return subprocess.run(argv, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    (tmp_path / "m.gguf").symlink_to(FILE)
    made = run("new", "-m", "m.gguf")
    assert made.returncode == 0, made.stderr
    # the shipped suite is ten prompts of a hundred tokens: a person waits for it, a test need not
    contract = tmp_path / "my.parity.yaml"
    contract.write_text(contract.read_text().replace("smoke-10", "suite.yaml"))
    (tmp_path / "suite.yaml").write_text("suite: s\nmax_new_tokens: 8\nprompts: [{id: a, text: The capital of France is}]\n")
    done = run("check", "my.parity.yaml", "--only", "*/prefill", "--json")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    verdict = json.loads(done.stdout)
    (cell,) = verdict["cells"]
    assert cell["status"] in ("MATCH", "TIE-FLIP") and sum(cell["counts"].values()) >= 8
    assert {gate["id"] for gate in verdict["gates"]} == {"kl", "top1"}
