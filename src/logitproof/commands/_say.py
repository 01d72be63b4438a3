"""Single lines for a terminal, with nothing in them that it would obey."""

from __future__ import annotations

import sys

import click

from logitproof.documents.wording import visible


def say(line: str) -> None:
    """One line of progress on stderr, whatever an engine or a program put into it."""
    # not by click, which goes past whoever keeps a bar of progress on the last line
    print(visible(line), file=sys.stderr, flush=True)


def note(line: str) -> None:
    """One line of what was done on stdout, whatever a file was called."""
    click.echo(visible(line))
