"""`logitproof mutations`."""

from __future__ import annotations

import json

import click

from logitproof.commands._options import AS_JSON


@click.group("mutations")
def command() -> None:
    """Known bugs: what each is, how it shows, where it happened."""


@command.command("list")
@click.argument("glob", default="*")
@AS_JSON
def list_(glob: str, as_json: bool) -> None:
    """List known bugs, or those whose id fits GLOB, such as 'rope.*'."""
    from fnmatch import fnmatchcase

    from logitproof.commands import _listing as listing
    from logitproof.errors import ContractError

    rows = [row for row in listing.rows("mutations") if fnmatchcase(row["name"], glob)]
    if not rows:
        raise ContractError(f"no mutation fits {glob!r}", remedy="`logitproof mutations list` shows them all")
    click.echo(json.dumps(rows, indent=2) if as_json else listing.as_text(rows))
    if not as_json:
        click.echo(f"{len(rows)} known bugs", err=True)


@command.command("show")
@click.argument("name", metavar="ID")
@AS_JSON
def show(name: str, as_json: bool) -> None:
    """Show the record of one known bug."""
    from logitproof.commands import _listing as listing

    found = listing.mutation(name)
    click.echo(json.dumps(found, indent=2) if as_json else listing.record_as_text(found))
