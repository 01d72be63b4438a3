"""The command line: a command is a file of `commands/`, which parses, calls the library, prints and exits.

Nothing but click is imported before a command runs, so that `--help` is instant.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import click

from logitproof.errors import ContractError, EnvironmentFailed, LogitproofError

COMMANDS = Path(__file__).parent / "commands"
WORDS = f"{__name__}.words"
"""Where a context keeps what was typed after the name of the program."""
INTERRUPTED = 130


class _Commands(click.Group):
    """Finds commands by file name, and turns every error that was foreseen into one message and its exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(file.stem.replace("_", "-") for file in COMMANDS.glob("*.py") if not file.name.startswith("_"))

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in (known := self.list_commands(ctx)):
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            if name.endswith((".yaml", ".yml")):
                hint = f"; a contract is run by `logitproof check {name}`"
            return ctx.fail(f"no command is called {name!r}{hint}")
        command: click.Command = importlib.import_module(f"logitproof.commands.{name.replace('-', '_')}").command
        return command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Keeps the words of the command: whoever asked for JSON gets it of a refusal, too."""
        ctx.meta[WORDS] = tuple(args)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            _refuse_empty(self, ctx, ctx.meta[WORDS])
            return super().invoke(ctx)
        except LogitproofError as error:
            from logitproof.documents.wording import visible_lines

            click.echo(f"error: {visible_lines(str(error))}", err=True)
            self._end(ctx, error, error.exit_code)
        except BrokenPipeError:
            raise  # whoever read the output has gone, and click ends quietly
        except OSError as error:
            from logitproof.documents.wording import visible_lines
            from logitproof.files.system import NO_PATH, in_words, remedy_of

            place = f"{error.filename}: " if error.filename else ""
            click.echo(f"error: {visible_lines(f'{place}{in_words(error)}')}\n  remedy: {remedy_of(error)}", err=True)
            self._end(ctx, error, (ContractError if error.errno in NO_PATH else EnvironmentFailed).exit_code)
        except click.UsageError as error:
            if command := _asked_in_json(self, ctx, ctx.meta[WORDS]):
                from logitproof.documents.refused import Fault, refusal

                fault = Fault(error.format_message(), "the command line", f"see `logitproof {command} --help`")
                _print(refusal([fault], command, error.exit_code).text())
            raise
        except KeyboardInterrupt as error:
            click.echo("interrupted: what was measured is kept, run the same command to continue", err=True)
            self._end(ctx, error, INTERRUPTED)

    def _end(self, ctx: click.Context, error: LogitproofError | OSError | KeyboardInterrupt, exit_code: int) -> NoReturn:
        """Exit; whoever asked for JSON has the faults in its envelope."""
        if command := _asked_in_json(self, ctx, ctx.meta[WORDS]):
            from logitproof.documents.refused import faults_of, refusal

            _print(refusal(faults_of(error), command, exit_code).text())
        ctx.exit(exit_code)


def _print(text: str) -> None:
    """Print; where that cannot be, people were told already."""
    with contextlib.suppress(OSError):
        click.echo(text)


def _named(group: click.Group, ctx: click.Context, words: Sequence[str]) -> tuple[click.Command, list[str]]:
    """The command that the words name, and the words of its name."""
    command: click.Command = group
    names = []
    for word in words:
        if isinstance(command, click.Group) and word in command.list_commands(ctx):
            command = command.get_command(ctx, word) or command
            names.append(word)
    return command, names


def _own(words: Sequence[str]) -> Sequence[str]:
    """Words before those of another program."""
    return words[: words.index("--")] if "--" in words else words


def _refuse_empty(group: click.Group, ctx: click.Context, words: Sequence[str]) -> None:
    """Raise UsageError for a path that is an empty text, as a variable that is not set gives: it would be the folder here."""
    own = _own(words)
    command, _ = _named(group, ctx, own)
    paths = [option for option in command.params if isinstance(option.type, click.Path)]
    for before, word in zip(("", *own), own, strict=False):
        for option in paths:
            is_place = isinstance(option, click.Argument) and not before.startswith("--")
            if (word == "" and (is_place or before in option.opts)) or any(word == f"{name}=" for name in option.opts):
                raise click.BadParameter("it is an empty text; is a variable not set?", ctx=ctx, param=option)


def _asked_in_json(group: click.Group, ctx: click.Context, words: Sequence[str]) -> str:
    """The name of the command that the words ask to print JSON; nothing where none is, as where `--json` takes a file."""
    words = _own(words)
    command, names = _named(group, ctx, words)
    takes = any("--json" in option.opts and getattr(option, "is_flag", False) for option in command.params)
    return " ".join(names) if takes and "--json" in words else ""


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="logitproof")
def main() -> None:
    """Does your engine compute the same model as the reference?

    Exit codes: 0 all gates hold · 1 a gate fails · 2 the contract or the command line is wrong ·
    3 an engine or the environment failed, so nothing was proven.
    """
    for stream in (sys.stdout, sys.stderr):
        if reconfigure := getattr(stream, "reconfigure", None):
            reconfigure(errors="backslashreplace")


if __name__ == "__main__":
    main()
