"""The smaller commands as a user types them, rightly and wrongly."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

SUITE = """\
suite: two
max_new_tokens: 3
prompts:
  - {id: a, text: "hello there"}
  - {id: b, text: "another prompt"}
"""


def logitproof(*args: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "logitproof", *map(str, args)]
    return subprocess.run(argv, cwd=cwd, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture
def captures(tmp_path: Path) -> Path:
    """Two captures of one toy, the second with noise."""
    (tmp_path / "toy.json").write_text('{"vocab_size": 300, "seed": 1}')
    (tmp_path / "two.yaml").write_text(SUITE)
    for name, more in (("one", ()), ("other", ("-o", "noise=1e-3", "--tokens-from", "one"))):
        made = logitproof("capture", "toy", "toy.json", "two.yaml", "--out", name, *more, cwd=tmp_path)
        assert made.returncode == 0, made.stderr
    return tmp_path


def test_two_captures_are_compared(captures: Path) -> None:
    said = logitproof("compare", "one", "other", "--json", cwd=captures)
    assert said.returncode == 0, said.stderr
    assert 0 < json.loads(said.stdout)["metrics"]["kl_divergence"]["mean"] < 1e-4


def test_a_capture_is_converted_and_the_dump_compares_as_equal(captures: Path) -> None:
    said = logitproof("convert", "one", "one.ndjson", cwd=captures)
    assert said.returncode == 0, said.stderr
    equal = logitproof("compare", "one.ndjson", "one", "--json", cwd=captures)
    assert equal.returncode == 0, equal.stderr
    assert json.loads(equal.stdout)["metrics"]["kl_divergence"]["max"] == pytest.approx(0, abs=1e-12)


def test_a_capture_is_frozen_and_says_its_error(captures: Path) -> None:
    said = logitproof("freeze", "one", "--out", "one.golden", "--no-determinism", cwd=captures)
    assert said.returncode == 0, said.stderr
    assert "measured KL error" in said.stdout and (captures / "one.golden").stat().st_size > 0


def test_the_record_of_a_known_bug_is_shown_without_a_framework(tmp_path: Path) -> None:
    said = logitproof("mutations", "show", "rope.pairing.interleaved", cwd=tmp_path)
    assert said.returncode == 0 and "remedy:" in said.stdout and "seen in:" in said.stdout


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (("chekc",), "did you mean 'check'?"),
        (("mutations", "show", "rope.bse"), "did you mean 'rope.base'?"),
        (("mutations", "list", "nothing.*"), "no mutation fits 'nothing.*'"),
        (("convert", "missing.npy", "out.ndjson"), "missing.npy: no such file or folder"),
        (("compare", "missing", "missing"), "missing: no such file or folder"),
        (("freeze", "missing", "--out", "x"), "no such file or folder: 'missing'"),
    ],
)
def test_a_mistake_is_one_message_and_exit_code_2(tmp_path: Path, args: tuple[str, ...], text: str) -> None:
    said = logitproof(*args, cwd=tmp_path)
    assert said.returncode == 2
    assert text in said.stderr and "Traceback" not in said.stderr


def test_an_unknown_ending_names_the_formats(captures: Path) -> None:
    said = logitproof("convert", "one", "one.xyz", cwd=captures)
    assert said.returncode == 2 and "--to" in said.stderr


def test_a_floor_needs_a_reason(captures: Path) -> None:
    for name, value in (("x.npy", 0.0), ("y.npy", 1.0)):
        np.save(captures / name, np.full((2, 3), value, np.float32))
    said = logitproof("compare", "x.npy", "y.npy", "--floor", "-30", cwd=captures)
    assert said.returncode == 2 and "reason" in said.stderr
