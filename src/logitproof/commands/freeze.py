"""`logitproof freeze`."""

from __future__ import annotations

from pathlib import Path

import click

from logitproof.commands._exits import WRITTEN, ends_with
from logitproof.commands._hub import DOWNLOAD
from logitproof.commands._options import AS_JSON
from logitproof.commands._paths import EXISTING


@ends_with(WRITTEN)
@click.command("freeze")
@click.argument("source", type=EXISTING)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="Golden file to write.")
@click.option("--small", is_flag=True, help="At most 200 bytes a token: exact top-k only, KL becomes bounds.")
@click.option("--model", help="Model of the contract, where it has several.")
@click.option("--determinism/--no-determinism", default=True, help="Run the reference again with other thread counts.")
@AS_JSON
@DOWNLOAD
def command(source: Path, out: Path, small: bool, model: str | None, determinism: bool, as_json: bool) -> None:
    """Write a golden: later runs need no reference engine.

    It is made of a contract's reference or of a capture.
    """
    from logitproof.commands._answer import tell
    from logitproof.golden.freeze import freeze
    from logitproof.golden.text import answer, document

    frozen = freeze(source, out, small=small, model=model, determinism=determinism)
    tell(document(frozen), answer(frozen), as_json=as_json)
