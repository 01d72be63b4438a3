"""`logitproof protocol test`."""

from __future__ import annotations

from pathlib import Path

import click

from logitproof.commands._exits import Exits, ends_with
from logitproof.commands._hub import DOWNLOAD


@click.group("protocol")
def command() -> None:
    """The protocol between logitproof and an engine."""


@ends_with(Exits("every rule that applies is kept", "one is broken", "nothing was asked, or the engine does not answer"))
@command.command("test")
@click.argument("engine", metavar="ENGINE:MODEL[?OPTION=VALUE&...]")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=60.0,
    show_default=True,
    help="Seconds an answer may take.",
)
@click.option("--json", "out", type=click.Path(path_type=Path, dir_okay=False), help="Write the rows to this file too.")
@DOWNLOAD
def test(engine: str, timeout: float, out: Path | None) -> None:
    """Does ENGINE keep the protocol?

    \b
    logitproof protocol test 'command:model.gguf?argv=[./my-engine]'

    Nothing is said about its numbers: that is `logitproof check`.
    """
    from logitproof.commands._answer import finish
    from logitproof.conformance.conformance import conformance
    from logitproof.conformance.text import COLUMNS, answer, document, row
    from logitproof.documents.console import show_row, show_verdict
    from logitproof.jobs.address import parse_address

    report = conformance(parse_address(engine), timeout=timeout, on_row=lambda outcome: show_row(COLUMNS, row(outcome)))
    if out is not None:
        answer(report).write(out)
    page = document(report)
    show_verdict(page)
    finish([page], answer(report), as_json=False)
