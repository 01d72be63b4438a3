"""The tutorial is true: its files are made, its commands run, and every line that it shows comes out."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/tutorial.md"
FILE = re.compile(r"^\*\*(?P<name>[^*\n]+)\*\*\n\n```\w+\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
CONSOLE = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
EXIT = re.compile(r"\s+# exit code (\d+)$")


@dataclass(frozen=True)
class Step:
    """A command of the page, its exit code and the lines that the page shows of what it prints."""

    command: tuple[str, ...]
    exit_code: int
    lines: tuple[str, ...]


def steps() -> list[Step]:
    """All commands of the page, in its order."""
    found: list[Step] = []
    for block in CONSOLE.findall(PAGE.read_text("utf-8")):
        for command in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            first, *lines = command.rstrip().splitlines()
            code = EXIT.search(first)
            found.append(Step(tuple(shlex.split(EXIT.sub("", first))), int(code[1]) if code else 0, tuple(lines)))
    return found


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """The folder of somebody who copied every file from the page."""
    files = {match["name"].replace("\\", ""): match["text"] for match in FILE.finditer(PAGE.read_text("utf-8"))}
    assert {"pyproject.toml", "my_parity/mine.py", "engine.parity.yaml"} <= set(files)
    for name, text in files.items():
        path = tmp_path / "package" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    (tmp_path / "package" / "model").symlink_to(ROOT / "zoo/qwen3")
    return tmp_path / "package"


def test_every_step_of_the_tutorial_ends_as_it_says(package: Path) -> None:
    site = package.parent / "site"
    paths = [str(site), str(ROOT / "src")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "COLUMNS": "200"}
    assert len(steps()) >= 8
    for step in steps():
        argv = _argv(step.command, site)
        ended = subprocess.run(argv, cwd=package, env=environment, capture_output=True, text=True, timeout=600, check=False)
        assert ended.returncode == step.exit_code, f"{step.command}\n{ended.stdout}\n{ended.stderr}"
        printed = " ".join((ended.stdout + ended.stderr).split())
        missing = [line for line in step.lines if " ".join(line.split()) not in printed]
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
