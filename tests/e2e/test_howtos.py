"""The how-to pages are true: their files are made, their commands and cells run, and every line that they show comes out."""

from __future__ import annotations

import ast
import contextlib
import io
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from page_steps import Cell, cells, make, on_one_line, steps

from logitproof.quality.mismatch import mismatch

ROOT = Path(__file__).parents[2]
RL, NOTEBOOK = ROOT / "docs/rl.md", ROOT / "docs/notebook.md"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where somebody works who has the model that a page asks for."""
    monkeypatch.setenv("LOGITPROOF_HISTORY", "off")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").symlink_to(ROOT / "zoo/qwen3")
    return tmp_path


def run(cell: Cell, names: dict[str, Any]) -> str:
    """What a notebook shows of a cell: what it prints, and its last line as Markdown or in words."""
    tree = ast.parse(cell.code)
    printed = io.StringIO()
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    with contextlib.redirect_stdout(printed):
        exec(compile(tree, "cell", "exec"), names)
        value = eval(compile(ast.Expression(last.value), "cell", "eval"), names) if last else None
    if hasattr(value, "_repr_html_"):
        assert "<script" not in value._repr_html_()
    shown = value._repr_markdown_() if hasattr(value, "_repr_markdown_") else "" if value is None else str(value)
    return on_one_line(printed.getvalue() + re.sub(r"\\(?=\W|_)", "", shown))


def test_every_step_of_a_trainer_and_its_rollout_engine_ends_as_the_page_says(folder: Path) -> None:
    make(RL, folder)
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "COLUMNS": "200"}
    assert [step.command[1] for step in steps(RL)] == ["check", "diagnose"]
    for step in steps(RL):
        assert step.command[0] == "logitproof"
        argv = [sys.executable, "-m", *step.command]
        ended = subprocess.run(argv, cwd=folder, env=environment, capture_output=True, text=True, timeout=600, check=False)
        assert ended.returncode == step.exit_code, f"{step.command}\n{ended.stdout}\n{ended.stderr}"
        printed = on_one_line(ended.stdout + ended.stderr)
        missing = [line for line in step.lines if on_one_line(line) not in printed]
        assert not missing, f"{step.command} does not print {missing}:\n{ended.stdout}"


@pytest.mark.parametrize(("page", "count"), [(RL, 1), (NOTEBOOK, 7)], ids=["rl", "notebook"])
def test_every_cell_of_a_page_shows_what_stands_below_it(page: Path, count: int, folder: Path) -> None:
    make(page, folder)
    names: dict[str, Any] = {}
    assert len(cells(page)) == count and any(cell.lines for cell in cells(page))
    for cell in cells(page):
        shown = run(cell, names)
        missing = [line for line in cell.lines if on_one_line(line) not in shown]
        assert shown and not missing, f"{cell.code}\ndoes not show {missing}:\n{shown}"


@pytest.mark.parametrize("sigma", [0.01, 0.1, 0.3])
def test_the_share_of_samples_that_the_page_promises_is_what_is_left(sigma: float) -> None:
    delta = np.random.default_rng(0).normal(scale=sigma, size=400_000)
    gap = mismatch([np.zeros_like(delta)], [-delta], [[0] * len(delta)], ["a"])
    assert gap.effective_samples == pytest.approx(np.exp(-(sigma**2)), rel=0.01)


def test_the_bounds_of_the_contract_are_those_of_the_table() -> None:
    text = RL.read_text("utf-8")
    assert re.search(r"log 1.2 = 0.182 and log 0.8 = −0.223", text) and "at_most: 0.182" in text and "at_least: -0.223" in text
    assert np.log(1.2) == pytest.approx(0.182, abs=5e-4) and np.log(0.8) == pytest.approx(-0.223, abs=5e-4)
    assert 0.1 / np.sqrt(1000) == pytest.approx(0.0032, abs=5e-5) and "0.0032 of 1000 tokens" in text
