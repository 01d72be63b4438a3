"""`logitproof judge`."""

from __future__ import annotations

from pathlib import Path

import click

from logitproof.commands._exits import VERDICT, ends_with
from logitproof.commands._options import JSON
from logitproof.commands._paths import RUN
from logitproof.commands._show import show


@ends_with(VERDICT)
@click.command("judge")
@click.argument("run", type=RUN, metavar="RUN|CONTRACT")
@click.option("--contract", type=click.Path(path_type=Path), help="Judge by this contract instead of the run's own.")
@JSON
def command(run: Path, contract: Path | None, as_json: bool) -> None:
    """Judge a finished run again, without any engine.

    The bands or gates of the contract may have been changed.
    """
    from logitproof.commands._say import say
    from logitproof.commands._unfinished import told_if_unfinished
    from logitproof.runs.place import contract_of
    from logitproof.runs.workspace import Workspace

    space = Workspace(run)
    with told_if_unfinished(contract or contract_of(run), run if (run / "run.json").is_file() else None):
        report = space.judge_again(contract)
    for line in space.note.splitlines():
        say(line)
    show(report, space.folder, as_json, next_command=space.next_command(report, report.opened.path))
