"""The tutorial is true: its files are made, its commands run, and every line that it shows comes out."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from page_steps import files, make, on_one_line, steps

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/tutorial.md"


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """The folder of somebody who copied every file from the page."""
    assert {"pyproject.toml", "my_parity/mine.py", "engine.parity.yaml"} <= set(files(PAGE))
    make(PAGE, tmp_path / "package")
    (tmp_path / "package" / "model").symlink_to(ROOT / "zoo/qwen3")
    return tmp_path / "package"


def test_every_step_of_the_tutorial_ends_as_it_says(package: Path) -> None:
    site = package.parent / "site"
    paths = [str(site), str(ROOT / "src")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "COLUMNS": "200"}
    assert len(steps(PAGE)) >= 8
    for step in steps(PAGE):
        argv = _argv(step.command, site)
        ended = subprocess.run(argv, cwd=package, env=environment, capture_output=True, text=True, timeout=600, check=False)
        assert ended.returncode == step.exit_code, f"{step.command}\n{ended.stdout}\n{ended.stderr}"
        printed = on_one_line(ended.stdout + ended.stderr)
        missing = [line for line in step.lines if on_one_line(line) not in printed]
        assert not missing, f"{step.command} does not print {missing}:\n{ended.stdout}"


def test_without_the_package_its_entries_are_unknown(package: Path) -> None:
    argv = [sys.executable, "-m", "logitproof", "check", "engine.parity.yaml"]
    ended = subprocess.run(argv, cwd=package, capture_output=True, text=True, timeout=600, check=False)
    assert ended.returncode == 2 and "mine" in ended.stderr


def _argv(command: tuple[str, ...], site: Path) -> list[str]:
    """The command by this interpreter; `pip install` goes into a folder of the test and asks no index."""
    program, *arguments = command
    if program == "pip":
        offline = ["--no-index", "--no-deps", "--no-build-isolation", "--quiet", "--upgrade", "--target", str(site)]
        return [sys.executable, "-m", "pip", arguments[0], *offline, "."]
    assert program == "logitproof", f"the tutorial runs {program}"
    return [sys.executable, "-m", program, *arguments]
