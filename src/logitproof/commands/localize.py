"""`logitproof localize`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from logitproof.commands._exits import Exits, ends_with
from logitproof.commands._hub import DOWNLOAD
from logitproof.commands._options import MODE


@ends_with(Exits("every operation is right", "one is wrong", "an engine failed, or nothing was compared"))
@click.command("localize")
@click.argument("what", nargs=-1, required=True, metavar="RUN|CONTRACT | REFERENCE CANDIDATE...")
@click.option("--cell", "cells", default=None, help="Of a run: the cell to look into; default: every WRONG one.")
@click.option("--prompt", default=None, help="Of a run: the prompt's id; default: the worst.")
@click.option("--tokens", default=None, help="Token ids, separated by commas, where engines are named.")
@click.option("--text", default=None, help="Text that the reference tokenizes, where engines are named.")
@click.option("--new-tokens", type=click.IntRange(0), default=0, help="Tokens that the reference adds, engines being named.")
@click.option("--layers", default=None, metavar="0-3,7", help="Only these layers; their memory is bounded.")
@MODE
@click.option(
    "--precision",
    type=click.Choice(["float32", "float16", "bfloat16", "quantized"]),
    default=None,
    help="The candidate's coarsest arithmetic, where it does not say it itself.",
)
@click.option(
    "--patch",
    multiple=True,
    metavar="TAP",
    help="Put the candidate's activations into the reference here, and compare the logits; `broken`: where it is wrong.",
)
@click.option("--replay-experts", is_flag=True, help="Run the reference with the experts that the candidate chose.")
@click.option("--no-hypotheses", is_flag=True, help="Do not try known bugs on what is wrong.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Folder for localization.json and .html.")
@click.option("--json", "as_json", is_flag=True, help="Print localization.json to stdout.")
@DOWNLOAD
def command(
    what: tuple[str, ...],
    cells: str | None,
    prompt: str | None,
    out: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Find the first wrong operation, and every other one.

    RUN is a folder of `check`, CONTRACT one that was checked. REFERENCE and CANDIDATE are engines with weights, such as
    transformers:zoo/qwen3 and llamacpp:model.gguf?config=zoo/qwen3; a candidate may also be a folder with a taps.yaml. With
    two candidates or more it is said who stands apart. `--patch TAP`, which may be a pattern and may be repeated, proves what
    the difference of the logits comes through. Exit code 0: every operation is right. 1: one is wrong. 3: an
    engine failed.
    """
    from logitproof.commands._answer import tell
    from logitproof.commands._say import say
    from logitproof.documents.answer import Answer
    from logitproof.localization.engines import Asked
    from logitproof.localization.targets import Fed, layers_of, localize_named, localize_run
    from logitproof.localization.text import document, write
    from logitproof.runs.place import withdraw

    asked = Asked(
        layers=layers_of(options["layers"]),
        precision=options["precision"],
        patch=options["patch"],
        replay_experts=options["replay_experts"],
        explain=not options["no_hypotheses"],
    )
    if out is not None:
        withdraw(out, ("localization.*", "*/localization.*"))
    if len(what) == 1:
        by_cell = localize_run(Path(what[0]), cell=cells, prompt=prompt, asked=asked, say=say)
    else:
        fed = Fed(options["tokens"], options["text"], options["new_tokens"])
        by_cell = {"": localize_named(what, fed=fed, mode=options["mode"], asked=asked, say=say)}
    if out is not None:
        for name, locations in by_cell.items():
            write(locations, out / name.replace("/", "-") if name else out, name)
    if not by_cell:
        say("no cell is WRONG, so there is nothing to look into")
    pages = [document(locations, name) for name, locations in by_cell.items()]
    data = {name or "engines": locations.as_json() for name, locations in by_cell.items()}
    exit_code = max((locations.exit_code for locations in by_cell.values()), default=0)
    tell(pages, Answer("localizations", " ".join(what), exit_code, data), as_json=as_json)
