"""What a command ends with: said beside the command, shown by its --help, and in the table of docs/commands.md."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import click

WRONG = "the contract, the command line or a file is wrong"


@dataclass(frozen=True)
class Exits:
    """What 0, 1 and 3 mean of a command, nothing where it never ends with that code, and 2 where it means more than `WRONG`.

    Of every command 130 is an interruption.
    """

    passed: str
    failed: str = ""
    nothing: str = ""
    wrong: str = ""

    def line(self) -> str:
        """All of them in one line."""
        meanings = {0: self.passed, 1: self.failed, 2: self.wrong or WRONG, 3: self.nothing}
        return "Exit codes: " + " · ".join(f"{code} {meaning}" for code, meaning in meanings.items() if meaning)


VERDICT = Exits(
    "every gate holds",
    "a gate fails, a cell is WRONG, or a planted bug is not caught",
    "nothing was proven: an engine failed",
)
WRITTEN = Exits("it is written", "", "the disk or an engine failed")
SHOWN = Exits("it is shown")
FIRST_SETTING = "settings that could not be tried hide it"
FIRST_COMMIT = Exits("the first bad commit is found", "", "commits that could not be tried hide it")
_KNOWN: dict[click.Command, Exits] = {}


def ends_with(exits: Exits) -> Callable[[click.Command], click.Command]:
    """Says what a command's exit codes mean: `@ends_with(Exits(...))` above its `@click.command(...)`."""

    def keep(command: click.Command) -> click.Command:
        command.epilog = exits.line()
        _KNOWN[command] = exits
        return command

    return keep


def exits_of(command: click.Command) -> Exits | None:
    """What was said of a command, or None."""
    return _KNOWN.get(command)
