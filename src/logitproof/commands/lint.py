"""`logitproof lint`."""

from __future__ import annotations

from pathlib import Path

import click

from logitproof.commands._exits import Exits, ends_with
from logitproof.commands._options import AS_JSON


@ends_with(Exits("nothing was found", wrong="something was found"))
@click.command("lint")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@AS_JSON
def command(files: tuple[Path, ...], as_json: bool) -> None:
    """Find what is wrong with contracts before anything runs.

    A finding is a line `file:line: CODE text (remedy)`. Exit code 0 where nothing was found, 2 otherwise.
    """
    from logitproof.commands._answer import finish
    from logitproof.documents.console import show_sections
    from logitproof.lint import lint
    from logitproof.lint._text import answer, document

    findings = [finding for file in files for finding in lint(file)]
    page = document(files, findings)
    if not as_json:
        show_sections(page)
    finish([page], answer(files, findings), as_json=as_json)
