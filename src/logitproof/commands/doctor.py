"""`logitproof doctor`."""

from __future__ import annotations

import json
import sys

import click

from logitproof.commands._options import JSON


@click.command("doctor")
@JSON
def command(as_json: bool) -> None:
    """What this machine can run: engines, versions, instruction sets, and what is missing."""
    from logitproof import doctor as verb

    found = verb.examine()
    if as_json:
        click.echo(json.dumps(found.as_json(), indent=2))
    else:
        click.echo(found.as_text())
    sys.exit(0 if found.usable else 3)
