"""`logitproof list`."""

from __future__ import annotations

import json

import click

from logitproof.commands._options import AS_JSON


@click.command("list")
@click.argument("what", type=click.Choice(["engines", "metrics", "mutations", "readers", "reporters", "suites"]))
@AS_JSON
def command(what: str, as_json: bool) -> None:
    """List the entries of a catalogue with their help and options.

    None of them is imported.
    """
    from logitproof.commands import _listing as listing

    rows = listing.rows(what)
    click.echo(json.dumps(rows, indent=2) if as_json else listing.as_text(rows))
