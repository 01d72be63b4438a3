"""`logitproof engines`."""

from __future__ import annotations

from pathlib import Path

import click

from logitproof.commands._exits import SHOWN, Exits, ends_with
from logitproof.commands._options import AS_JSON

INTO = click.option(
    "--into",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of all environments; default LOGITPROOF_ENGINES, or logitproof/engines in the user's data folder.",
)


@click.group("engines")
def command() -> None:
    """Environments of engines that need one of their own."""


@ends_with(Exits("it is made and answers", nothing="it cannot be made, or does not answer"))
@command.command("install")
@click.argument("name")
@INTO
@click.option("--quiet", is_flag=True, help="Print the interpreter and nothing else.")
def install(name: str, into: Path | None, quiet: bool) -> None:
    """Make the environment of an engine from pinned requirements.

    Packages are installed by the hashes of its lock, where it has one; every engine that is shipped has.
    What is installed and answers already is left as it is; what was interrupted goes on where it stopped.
    """
    from logitproof.commands._say import say
    from logitproof.jobs import environments
    from logitproof.jobs.worker import Spec, Worker

    def prove(python: Path) -> object:
        with Worker(Spec(name, python=str(python)), name=name) as worker:
            return worker.hello()

    def tell(line: str) -> None:
        if not quiet:
            say(f"  {line[:160]}")

    made = environments.install(name, into, tell=tell, prove=prove)
    click.echo(made.python)


@ends_with(SHOWN)
@command.command("list")
@INTO
@AS_JSON
def show(into: Path | None, as_json: bool) -> None:
    """List such engines, and whether their environment is made."""
    from logitproof.commands._answer import tell
    from logitproof.documents.answer import Answer
    from logitproof.jobs import environments

    rows = environments.states(into)
    answer = Answer("engines", str(into or environments.root()), 0, {"engines": rows})
    tell(environments.document(rows), answer, as_json=as_json)
