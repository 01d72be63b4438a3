"""`logitproof doctor`."""

from __future__ import annotations

import json
import sys

import click

from logitproof.commands._options import JSON


@click.command("doctor")
@click.option("--llama", type=click.Path(exists=True), help="Folder of a llama.cpp build to try for the AMX trap.")
@JSON
def command(llama: str | None, as_json: bool) -> None:
    """What this machine can run, and what is missing.

    Lists engines, versions, instruction sets and how each is pinned. Tries a known trap too: llama.cpp compiled by GCC 12
    for AMX dies at the first quantized decode.
    """
    from logitproof.jobs import doctor as verb

    found = verb.examine(llama)
    if as_json:
        click.echo(json.dumps(found.as_json(), indent=2))
    else:
        click.echo(found.as_text())
    sys.exit(0 if found.usable else 3)
