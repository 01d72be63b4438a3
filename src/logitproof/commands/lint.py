"""`logitproof lint`."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

import click

from logitproof.commands._options import AS_JSON


@click.command("lint")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@AS_JSON
def command(files: tuple[Path, ...], as_json: bool) -> None:
    """Find what is wrong with contracts before anything runs.

    A finding is a line `file:line: CODE text (remedy)`. Exit code 0 where nothing was found, 2 otherwise.
    """
    from logitproof.lint import lint

    found = [one for file in files for one in lint(file)]
    if as_json:
        click.echo(json.dumps([asdict(one) for one in found], indent=1))
    else:
        for one in found:
            click.echo(one)
    sys.exit(2 if found else 0)
