"""A small soak: what the harness holds is gone after a run, and the verdict of the whole is that of its parts."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SOAK = Path(__file__).parents[2] / "benchmarks/soak.py"
FILES = 40
"""Files that a run of three engines may have open at a time, however many its prompts."""


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc")
def test_forty_prompts_leave_nothing_open_and_add_up(tmp_path: Path) -> None:
    words = ["--prompts", "40", "--engines", "3", "--parts", "2", "--out", str(tmp_path / "soak.json")]
    done = subprocess.run([sys.executable, str(SOAK), *words], capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stderr
    result = json.loads((tmp_path / "soak.json").read_text())
    assert (result["status"], result["prompts"]) == ("PASS", 40) and result["traces"] >= 120
    assert result["verdict_is_sum_of_parts"] is True
    # pipes of three engines and what is read at the moment; a file for each prompt would be more than forty
    assert result["peak"]["files"] < FILES and result["after"]["files"] < 20
    assert result["children_a_trace"] < 0.02
