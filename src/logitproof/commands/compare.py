"""`logitproof compare`."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.command("compare")
@click.argument("reference", type=click.Path(path_type=Path))
@click.argument("candidate", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def command(reference: Path, candidate: Path, as_json: bool) -> None:
    """Compare two captures: metrics only, no verdict (a verdict needs a contract)."""
    from logitproof.capture import compare_captures

    summary = compare_captures(reference, candidate)
    if as_json:
        click.echo(json.dumps(summary, indent=2))
        return
    from rich.console import Console

    from logitproof.reporters.console import summary_table

    Console().print(summary_table(summary))
