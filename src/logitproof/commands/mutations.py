"""`logitproof mutations`."""

from __future__ import annotations

import click

from logitproof.commands._exits import SHOWN, ends_with
from logitproof.commands._options import AS_JSON


@click.group("mutations")
def command() -> None:
    """Known bugs: what each is, how it shows, where seen."""


@ends_with(SHOWN)
@command.command("list")
@click.argument("glob", default="*")
@AS_JSON
def list_(glob: str, as_json: bool) -> None:
    """List known bugs, or those whose id fits GLOB, such as 'rope.*'."""
    from fnmatch import fnmatchcase

    from logitproof.commands import _listing as listing
    from logitproof.commands._say import say
    from logitproof.documents.answer import Answer
    from logitproof.documents.console import show_sections
    from logitproof.errors import ContractError

    rows = [row for row in listing.rows("mutations") if fnmatchcase(row["name"], glob)]
    if not rows:
        raise ContractError(f"no mutation fits {glob!r}", remedy="`logitproof mutations list` shows them all")
    if as_json:
        click.echo(Answer("list", f"mutations {glob}", 0, {"entries": rows}).text())
        return
    show_sections(listing.document("mutations", rows))
    say(f"{len(rows)} known bugs")


@ends_with(SHOWN)
@command.command("show")
@click.argument("name", metavar="ID")
@AS_JSON
def show(name: str, as_json: bool) -> None:
    """Show the record of one known bug."""
    from logitproof.commands import _listing as listing
    from logitproof.documents.answer import Answer
    from logitproof.documents.console import show_sections

    record = listing.mutation(name)
    if as_json:
        click.echo(Answer("mutation", name, 0, record).text())
        return
    show_sections(listing.record_document(record))
