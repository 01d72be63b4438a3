"""`logitproof new`."""

from __future__ import annotations

from pathlib import Path

import click

from logitproof.commands._exits import WRITTEN, ends_with
from logitproof.commands._hub import DOWNLOAD


@ends_with(WRITTEN)
@click.command("new")
@click.argument("path", type=click.Path(path_type=Path), default="my.parity.yaml")
@click.option("--model", "-m", multiple=True, metavar="PATH|ID", help="HF folder, GGUF file or hub id; may be repeated.")
@click.option("--engine", metavar="NAME", help="One of `logitproof list engines`; default llamacpp.")
@click.option("--program", metavar="COMMAND LINE", help="Your engine, which speaks the protocol.")
@click.option("--url", metavar="URL", help="A running server with OpenAI's completions.")
@DOWNLOAD
def command(path: Path, model: tuple[str, ...], engine: str | None, program: str | None, url: str | None) -> None:
    """Write a contract to start from, of your models.

    A GGUF file alone is a whole model: the reference reads its weights dequantized.
    """
    from logitproof.commands._say import note
    from logitproof.commands._starter import Own, write_starter

    is_complete = write_starter(path, Own(model, engine, program, url))
    note(f"wrote {path}")
    note(f"next: logitproof check {path}" if is_complete else f"next: set the paths in it, then `logitproof check {path}`")
