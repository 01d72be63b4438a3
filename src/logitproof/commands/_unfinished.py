"""A run that comes to no verdict says so where its results would stand, and to GitHub."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import click


@contextlib.contextmanager
def told_if_unfinished(contract: Path, out: Path | None) -> Iterator[None]:
    """Whatever ends the body but an exit code is written in place of the results of `contract`, and raised again."""
    try:
        yield
    except (Exception, KeyboardInterrupt) as error:
        from logitproof.report.unfinished import unfinished
        from logitproof.runs.place import folder_of

        with contextlib.suppress(OSError):
            folder = out or folder_of(contract)
            named = folder_of(contract)
            _tell(unfinished(error, contract, named.name if named else contract.name), folder)
        raise


def _tell(run: object, folder: Path | None) -> None:
    from logitproof.reporters.github import tell_github
    from logitproof.runs.workspace import Workspace

    with tempfile.TemporaryDirectory() as scratch:
        place = folder if folder is not None and Workspace(folder).tell_unfinished(run) else None  # type: ignore[arg-type]
        if place is None:
            place = Path(scratch)
            Workspace(place).tell_unfinished(run)  # type: ignore[arg-type]
        click.echo(tell_github(place, os.environ), err=True, nl=False)
