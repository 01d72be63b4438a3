"""`logitproof convert`."""

from __future__ import annotations

from pathlib import Path

import click

from logitproof.commands._exits import WRITTEN, ends_with


@ends_with(WRITTEN)
@click.command("convert")
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("target", type=click.Path(path_type=Path))
@click.option("--from", "source_format", metavar="FORMAT", help="Format of the source where its content does not tell.")
@click.option("--to", "target_format", metavar="FORMAT", help="Format to write where the target's name does not tell.")
@click.option("--position", type=int, metavar="N", help="Only the row behind token N of each prompt; -1 is its last.")
def command(source: Path, target: Path, source_format: str | None, target_format: str | None, position: int | None) -> None:
    """Turn a dump of logits into another format.

    `logitproof list readers` names the formats.
    """
    from logitproof.commands._say import note
    from logitproof.readers import convert

    dump = convert(source, target, source_format=source_format, target_format=target_format, position=position)
    positions = sum(len(prompt.positions) for prompt in dump.prompts)
    note(f"{len(dump.prompts)} prompts, {positions} positions: {dump.format} in {source} to {target}")
