"""`logitproof list`."""

from __future__ import annotations

import click

from logitproof.commands._exits import SHOWN, ends_with
from logitproof.commands._options import AS_JSON


@ends_with(SHOWN)
@click.command("list")
@click.argument("what", type=click.Choice(["engines", "metrics", "mutations", "readers", "reporters", "suites"]))
@AS_JSON
def command(what: str, as_json: bool) -> None:
    """List the entries of a catalogue with help and options.

    None of them is imported.
    """
    from logitproof.commands import _listing as listing
    from logitproof.documents.answer import Answer
    from logitproof.documents.console import show_sections

    rows = listing.rows(what)
    if as_json:
        click.echo(Answer("list", what, 0, {"entries": rows}).text())
    else:
        show_sections(listing.document(what, rows))
