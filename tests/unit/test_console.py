"""The console between 80 and 120 columns: no name is cut into pieces, and everything is said that a person must know."""

from __future__ import annotations

import io
import os
import pty
import re
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from rich.console import Console

from logitproof.cli import main
from logitproof.report.report import Report
from logitproof.reporters.console import renderable

LONG = "llamacpp-avx512-nightly"
WEIGHTS = "170 of 171 tensors compared, 1 of them not there in the file"
"""What made the table of N10 collapse."""


def shown(report: Report, width: int) -> str:
    sheet = io.StringIO()
    Console(file=sheet, width=width, color_system=None).print(renderable(report, Path("RUN/report.md"), "next", width=width))
    return sheet.getvalue()


@pytest.fixture
def report(project: Any) -> Report:
    """Of a candidate and a model with long names, whose weights were compared in many words."""
    made: Report = project.check(
        candidates={LONG: project.toy(noise=1e-7)},
        models={"qwen3-0.6b": {"original": "toy.json", "Q8_0": "toy.json"}},
        matrix={"mode": ["prefill"]},
    )
    for pair in made.facts["preflight"]["pairs"]:
        compared = {"name": "weights", "reference": "", "candidate": WEIGHTS, "likeness": "same", "note": "", "check": ""}
        pair["settings"] = [*(row for row in pair["settings"] if row["name"] != "weights"), compared]
    return made


@pytest.mark.parametrize("width", range(80, 121))
def test_a_name_stays_whole_at_every_width(report: Report, width: int) -> None:
    text = shown(report, width)
    assert f"{LONG}/qwen3-0.6b/original" in text and WEIGHTS in " ".join(text.split()), text
    assert max(map(len, text.splitlines())) <= width
    head = text.partition("status ")[0]
    assert len(head.splitlines()) <= 8, head


def test_weights_that_no_cell_reads_and_defaults_are_told(report: Report) -> None:
    text = " ".join(shown(report, 100).split())
    assert "toy.json is listed as Q8_0 of qwen3-0.6b, and no cell reads it: it was not compared" in text
    assert "matrix by default: quantization original, isa native" in text


def test_a_run_from_the_store_says_so(project: Any) -> None:
    first, second = project.check(), project.check()
    assert first.facts["from_store"] == 0 and "came from the store" not in shown(first, 100)
    assert second.facts["from_store"] == second.facts["jobs"] > 0
    assert f"{second.facts['jobs']} of {second.facts['jobs']} traces came from the store" in shown(second, 100)


@pytest.mark.parametrize("changes", ["NaN", "no such mode"])
def test_the_reason_stands_in_the_console(project: Any, changes: str) -> None:
    use = project.toy(fault="nan") if changes == "NaN" else project.engine(
        'def hello(p): return {"protocol": 1, "engine": "fake", "modes": ["decode"], "tokenize": True}'
    )
    text = " ".join(shown(project.check(candidates={"mine": use}), 80).split())
    assert ("logits hold nan at position" if changes == "NaN" else "does not offer prefill") in text


def test_a_message_never_stands_behind_the_bar_of_progress(project: Any) -> None:
    contract = project.contract(candidates={"good": {"engine": "toy", "options": {"fault": "slow", "noise": 1e-7}}})
    leader, follower = pty.openpty()
    argv = [sys.executable, "-m", "logitproof", "check", str(contract)]
    environment = {**os.environ, "COLUMNS": "100", "TERM": "xterm", "LOGITPROOF_HISTORY": "off"}
    pipes = {"stdout": follower, "stderr": follower, "stdin": follower}
    with subprocess.Popen(argv, **pipes, cwd=project.folder, env=environment) as process:
        os.close(follower)
        drawn, end = b"", time.monotonic() + 120
        while time.monotonic() < end:
            if not select.select([leader], [], [], 1.0)[0]:
                continue
            try:
                came = os.read(leader, 4096)
            except OSError:
                break
            if not came:
                break
            drawn += came
        os.close(leader)
    assert process.returncode == 0, drawn
    text = drawn.decode("utf-8", "replace")
    assert "━" in text, "there is a bar at all"
    before = text[: text.index("preflight: ")]
    line = re.split(r"\r\n|\n|\r|\x1b\[2K", before)[-1]
    assert re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line).strip() == "", repr(line)


def commands(group: click.Group, context: click.Context, *names: str) -> list[tuple[str, click.Command]]:
    listed: list[tuple[str, click.Command]] = []
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        inner = commands(command, context, *names, name) if isinstance(command, click.Group) else []
        listed += [(" ".join([*names, name]), command), *inner]
    return listed


EVERY = commands(main, click.Context(main))


def test_every_summary_fits_its_line() -> None:
    text = CliRunner().invoke(main, ["--help"], env={"COLUMNS": "80"}, terminal_width=80).output
    listed = text[text.index("Commands:") :]
    assert not [line for line in listed.splitlines() if line.rstrip().endswith("...")]
    assert max(map(len, listed.splitlines())) <= 80
    assert len(listed.splitlines()) == len(main.list_commands(click.Context(main))) + 1


@pytest.mark.parametrize(("name", "command"), EVERY, ids=[name for name, _ in EVERY])
def test_every_option_has_help_that_is_its_own(name: str, command: click.Command) -> None:
    options = [option for option in command.params if isinstance(option, click.Option)]
    assert not [option.name for option in options if not option.help]
    for option in options:
        if option.help and "verdict.json" in option.help:
            assert name in ("check", "judge"), "only these print verdict.json"


def test_the_exit_codes_of_every_command_stand_in_one_table() -> None:
    page = (Path(__file__).parents[2] / "docs/commands.md").read_text("utf-8")
    table = page[page.index("## Exit codes") :]
    for name in main.list_commands(click.Context(main)):
        assert re.search(rf"^\| \[`{re.escape(name)}", table, re.MULTILINE), name
