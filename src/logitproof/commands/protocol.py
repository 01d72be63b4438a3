"""`logitproof protocol test`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click


@click.group("protocol")
def command() -> None:
    """The protocol between logitproof and an engine, see docs/protocol.md."""


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
def test(engine: str, timeout: float, out: Path | None) -> None:
    """Does ENGINE keep the protocol?

    \b
    logitproof protocol test 'command:model.gguf?argv=[./my-engine]'

    Nothing is said about its numbers: that is `logitproof check`.
    """
    import json

    from logitproof.conformance.conformance import conformance
    from logitproof.files.atomic import write_atomically
    from logitproof.jobs.address import parse_address

    report = conformance(parse_address(engine), timeout=timeout, on_row=_show)
    if out is not None:
        write_atomically(out, json.dumps(report.as_json(), indent=1, ensure_ascii=False))
    kept = sum(row.status == "PASS" for row in report.rows)
    click.echo(f"{kept} of {len(report.rows)} rules kept, {len(report.failed)} broken")
    sys.exit(report.exit_code)


def _show(row: Any) -> None:
    from logitproof.documents.wording import visible

    click.echo(f"{row.status:<12} {row.rule:<20} {visible(row.said)}")
    if row.status == "FAIL":
        click.echo(f"{'':<33} remedy: {row.remedy}")
