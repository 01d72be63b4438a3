"""`logitproof doctor`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from logitproof.commands._exits import Exits, ends_with
from logitproof.commands._options import AS_JSON
from logitproof.commands._paths import EXISTING


@ends_with(Exits("a real engine answers", nothing="none does"))
@click.command("doctor")
@click.option("--llama", type=EXISTING, help="Folder of a llama.cpp build to try for the AMX trap.")
@click.option("--ray", is_flag=True, help="Print what this machine offers a Ray cluster: ray start --resources.")
@AS_JSON
def command(llama: Path | None, ray: bool, as_json: bool) -> None:
    """What this machine can run, and what is missing.

    Lists engines, versions, instruction sets and how each is pinned. Tries a known trap too: llama.cpp compiled by GCC 12
    for AMX dies at the first quantized decode.
    """
    from logitproof.commands._answer import tell
    from logitproof.documents.answer import Answer
    from logitproof.jobs import doctor as verb
    from logitproof.jobs.cluster.offers import offers

    if ray:
        click.echo(json.dumps(offers(verb.ask_engines())))
        return
    examination = verb.examine(str(llama) if llama else None)
    answer = Answer("doctor", "this machine", 0 if examination.usable else 3, examination.as_json())
    tell(examination.document(), answer, as_json=as_json)
