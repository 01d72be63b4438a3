"""`logitproof new`."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("new")
@click.argument("path", type=click.Path(path_type=Path), default="my.parity.yaml")
def command(path: Path) -> None:
    """Write a contract to start from."""
    from logitproof.commands import _listing as listing
    from logitproof.commands._say import note

    listing.write_starter(path)
    note(f"wrote {path}")
    note(f"next: set the paths in it, then `logitproof check {path}`")
