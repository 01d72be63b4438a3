"""The command line: a command is a file of `commands/`, which parses, calls the library, prints and exits.

Nothing but click is imported before a command runs, so that `--help` is instant.
"""

from __future__ import annotations

import difflib
import errno
import importlib
import sys
from pathlib import Path
from typing import Any

import click

from logitproof.errors import EnvironmentFailed, LogitproofError

COMMANDS = Path(__file__).parent / "commands"
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM)
"""What the system says where a disk is full or a folder is not ours."""


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

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except LogitproofError as error:
            from logitproof.documents.wording import visible_lines

            click.echo(f"error: {visible_lines(str(error))}", err=True)
            ctx.exit(error.exit_code)
        except BrokenPipeError:
            raise  # whoever read the output has gone, and click ends quietly
        except OSError as error:
            from logitproof.documents.wording import visible_lines
            from logitproof.files.system import in_words

            place = f"{error.filename}: " if error.filename else ""
            full = error.errno in FULL
            remedy = "free the disk, or name a folder that can be written" if full else "see what the system says"
            click.echo(f"error: {visible_lines(f'{place}{in_words(error)}')}\n  remedy: {remedy}", err=True)
            ctx.exit(EnvironmentFailed.exit_code)
        except KeyboardInterrupt:
            click.echo("interrupted: what was measured is kept, run the same command to continue", err=True)
            ctx.exit(130)


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
