"""`logitproof capture`."""

from __future__ import annotations

from pathlib import Path

import click

from logitproof.commands._exits import Exits, ends_with
from logitproof.commands._hub import DOWNLOAD, Model
from logitproof.commands._options import MODE


@ends_with(Exits("the logits are kept", nothing="the engine failed"))
@click.command("capture")
@click.argument("engine")
@click.argument("model", type=Model())
@click.argument("suite")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder to write.")
@click.option("--option", "-o", "options", multiple=True, metavar="NAME=VALUE", help="An option of the engine, as YAML.")
@MODE
@click.option("--config", type=Model(), help="HF folder of the unquantized model, for a GGUF.")
@click.option(
    "--tokens-from", type=click.Path(path_type=Path), help="A capture whose tokens to score, so both can be compared."
)
@DOWNLOAD
def command(
    engine: str,
    model: Path,
    suite: str,
    out: Path,
    options: tuple[str, ...],
    mode: str,
    config: Path | None,
    tokens_from: Path | None,
) -> None:
    """Run one engine on a suite and keep its logits."""
    from logitproof.commands._progress import shown_progress
    from logitproof.commands._say import note
    from logitproof.jobs.address import parse_options
    from logitproof.jobs.capture import capture as run_capture

    with shown_progress() as on_progress:
        made = run_capture(
            engine,
            model,
            suite,
            out,
            options=parse_options(options),
            mode=mode,
            config=config,
            tokens_from=tokens_from,
            on_progress=on_progress,
        )
    note(f"{len(made.prompts)} prompts, {made.positions} positions in {out}")
    note(f"next: logitproof capture ENGINE MODEL {suite} --out OTHER --tokens-from {out}; logitproof compare {out} OTHER")
