"""Prints a judged run and ends with its exit code."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, NoReturn

import click


def show(report: Any, folder: Path, as_json: bool, *, next_command: str) -> NoReturn:
    """Print verdict.json or the table, tell GitHub where it listens, and exit as the verdict says."""
    if as_json:
        click.echo((folder / "verdict.json").read_text("utf-8"))
    else:
        from rich.console import Console

        from logitproof.reporters.console import renderable

        terminal = Console()
        terminal.print(renderable(report, folder / "report.md", next_command, width=terminal.width))
    from logitproof.reporters.github import tell_github

    click.echo(tell_github(folder, os.environ), err=True, nl=False)
    sys.exit(report.verdict.exit_code)
