"""`logitproof diagnose`."""

from __future__ import annotations

from pathlib import Path

import click

from logitproof.commands._exits import Exits, ends_with
from logitproof.commands._hub import DOWNLOAD, Model
from logitproof.commands._options import AS_JSON
from logitproof.commands._paths import EXISTING


@ends_with(Exits("nothing diverges", "a known bug explains it", "it stays unexplained"))
@click.command("diagnose")
@click.argument("what", type=EXISTING, metavar="RUN|CONTRACT|DUMP")
@click.option("--model", type=Model("folder"), help="HF folder, for a dump.")
@click.option("--mode", type=click.Choice(["prefill", "decode"]), default="prefill", show_default=True, help="For a dump.")
@click.option("--cell", default="*", show_default=True, help="Only cells whose id fits this pattern, of a run.")
@AS_JSON
@DOWNLOAD
def command(what: Path, model: Path | None, mode: str, cell: str, as_json: bool) -> None:
    """Name the known bug that explains a divergence.

    RUN is a folder of `check`, CONTRACT one that was checked, DUMP any format of `logitproof list readers`. Exit code 0 where
    there is nothing to explain, 1 where every divergence is explained, 3 where one is not.
    """
    from logitproof.commands._answer import tell
    from logitproof.commands._say import say
    from logitproof.diagnosis.of_run import diagnose_dump, diagnose_run
    from logitproof.diagnosis.text import answer, document, sentence
    from logitproof.runs.place import run_of

    folder = what
    if model is not None:
        diagnoses = {str(what): diagnose_dump(what, model, mode)}
    else:
        folder = run_of(what)
        diagnoses = diagnose_run(folder, say, lambda name, diagnosis: say(f"{name}: {sentence(diagnosis)}"), cell)
    tell(document(diagnoses, folder), answer(diagnoses, str(what)), as_json=as_json)
