"""A small soak: what the harness holds does not grow by prompts, and the verdict of the whole is that of its parts."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SOAK = Path(__file__).parents[2] / "benchmarks/soak.py"


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc")
def test_three_hundred_prompts_leave_nothing_open_and_add_up(tmp_path: Path) -> None:
    words = ["--prompts", "300", "--engines", "3", "--parts", "3", "--out", str(tmp_path / "soak.json")]
    done = subprocess.run([sys.executable, str(SOAK), *words], capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stderr
    result = json.loads((tmp_path / "soak.json").read_text())
    assert (result["status"], result["prompts"]) == ("PASS", 300) and result["traces"] >= 900
    assert result["verdict_is_sum_of_parts"] is True
    # a run this short is mostly beginning: its slopes are held to, its first files are not
    assert result["files_a_trace"] < 0.02 and result["maps_a_trace"] < 0.1 and result["children_a_trace"] < 0.02
    assert result["peak"]["files"] < 200
