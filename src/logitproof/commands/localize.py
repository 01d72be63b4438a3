"""`logitproof localize`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from logitproof.commands._options import MODE


@click.command("localize")
@click.argument("what", nargs=-1, required=True, metavar="RUN|CONTRACT | REFERENCE CANDIDATE...")
@click.option("--cell", "cells", default=None, help="Of a run: the cell to look into; default: every WRONG one.")
@click.option("--prompt", default=None, help="Of a run: the prompt's id; default: the worst.")
@click.option("--tokens", default=None, help="Token ids, separated by commas, where engines are named.")
@click.option("--text", default=None, help="Text that the reference tokenizes, where engines are named.")
@click.option("--layers", default=None, metavar="0-3,7", help="Only these layers; their memory is bounded.")
@MODE
@click.option(
    "--precision",
    type=click.Choice(["float32", "float16", "bfloat16", "quantized"]),
    default=None,
    help="The candidate's coarsest arithmetic, where it does not say it itself.",
)
@click.option("--no-hypotheses", is_flag=True, help="Do not try known bugs on what is wrong.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Folder for localization.json and .html.")
@click.option("--json", "as_json", is_flag=True, help="Print localization.json to stdout.")
def command(
    what: tuple[str, ...],
    cells: str | None,
    prompt: str | None,
    tokens: str | None,
    text: str | None,
    layers: str | None,
    mode: str,
    precision: str | None,
    no_hypotheses: bool,
    out: Path | None,
    as_json: bool,
) -> None:
    """Find the first wrong operation, and every other one.

    RUN is a folder of `check`, CONTRACT one that was checked. REFERENCE and CANDIDATE are engines with weights, such as
    transformers:zoo/qwen3 and llamacpp:model.gguf?config=zoo/qwen3; a candidate may also be a folder with a taps.yaml. With
    two candidates or more it is said who stands apart. Exit code 0: every operation is right. 1: one is wrong. 3: an
    engine failed.
    """
    from logitproof.localization.targets import localize_named, localize_run
    from logitproof.localization.text import as_text, write

    options: dict[str, Any] = {
        "layers": layers,
        "mode": mode,
        "precision": precision,
        "explain": not no_hypotheses,
        "say": lambda line: click.echo(line, err=True),
    }
    if len(what) == 1:
        folder = out or None
        found = localize_run(Path(what[0]), cell=cells, prompt=prompt, **options)
    else:
        folder = out
        found = {"": localize_named(what, tokens=tokens, text=text, **options)}
    for name, one in found.items():
        if folder is not None:
            write(one, folder / name.replace("/", "-") if name else folder)
        if not as_json:
            click.echo(f"{name}\n{as_text(one)}" if name else as_text(one))
    if as_json:
        from logitproof.localization.text import plain

        click.echo(json.dumps({name or "engines": plain(one) for name, one in found.items()}, indent=1))
    verdicts = {each.localization.verdict for one in found.values() for each in one.located}
    if not found:
        click.echo("no cell is WRONG, so there is nothing to look into")
    sys.exit(3 if "nothing compared" in verdicts else 1 if verdicts - {"same"} else 0)
