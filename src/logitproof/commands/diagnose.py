"""`logitproof diagnose`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from logitproof.commands._options import AS_JSON


@click.command("diagnose")
@click.argument("what", type=click.Path(path_type=Path, exists=True), metavar="RUN|CONTRACT|DUMP")
@click.option("--model", type=click.Path(path_type=Path, exists=True, file_okay=False), help="HF folder, for a dump.")
@click.option("--mode", type=click.Choice(["prefill", "decode"]), default="prefill", show_default=True, help="For a dump.")
@AS_JSON
def command(what: Path, model: Path | None, mode: str, as_json: bool) -> None:
    """Name the known bug that explains a divergence.

    RUN is a folder of `check`, CONTRACT one that was checked, DUMP any format of `logitproof list readers`. Exit code 0 where
    there is nothing to explain, 1 where every divergence is explained, 3 where one is not.
    """
    from logitproof.contract.contract import open_contract
    from logitproof.diagnosis.of_run import diagnose_dump, diagnose_run

    if model is not None:
        found = {str(what): diagnose_dump(what, model, mode)}
    else:
        folder = what if what.is_dir() else Path("runs") / open_contract(what).contract.contract
        found = diagnose_run(folder, lambda text: click.echo(text, err=True))
    if as_json:
        click.echo(json.dumps({name: one.as_json() for name, one in found.items()}, indent=1))
    else:
        for name, one in found.items():
            click.echo(f"{name}\n  {one.as_text()}")
        if not found:
            click.echo("no cell is WRONG, so there is nothing to explain")
    verdicts = {one.verdict for one in found.values()} - {"same"}
    sys.exit(3 if "unexplained" in verdicts else 1 if verdicts else 0)
