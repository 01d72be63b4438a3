"""Writes docs/commands.md from the commands themselves: `python docs/commands_table.py`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import click

from logitproof.cli import main as LOGITPROOF
from logitproof.commands._exits import exits_of

PAGE = Path(__file__).with_name("commands.md")


def commands() -> Iterator[tuple[str, click.Command]]:
    """Every command that does something, by its words."""
    yield from _below("", LOGITPROOF)


def page() -> str:
    """The whole page."""
    every = dict(commands())
    lines = [
        "# Commands",
        "",
        "Written by `docs/commands_table.py` from the commands themselves; `logitproof COMMAND --help` says the same.",
        "",
        "## Exit codes",
        "",
        "2 is a contract, command line or file that is wrong, and 130 an interruption, of every command. "
        "[In CI](ci.md) says what to do about each.",
        "",
        "| command | 0 | 1 | 2 | 3 |",
        "|---|---|---|---|---|",
    ]
    for name, command in every.items():
        exits = exits_of(command)
        assert exits is not None, f"{name} has no @ends_with"
        cells = (exits.passed, exits.failed or "–", exits.wrong or "set-up", exits.nothing or "–")
        lines.append(f"| [`{name}`](#{name.replace(' ', '-')}) | {' | '.join(cells)} |")
    for name, command in every.items():
        lines += ["", f"## {name}", "", *_section(name, command)]
    return "\n".join(lines) + "\n"


def _below(name: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    if not isinstance(command, click.Group):
        yield name, command
        return
    context = click.Context(command)
    if name and command.invoke_without_command:
        yield name, command
    for child in command.list_commands(context):
        found = command.get_command(context, child)
        assert found is not None
        yield from _below(f"{name} {child}".strip(), found)


def _section(name: str, command: click.Command) -> list[str]:
    context = click.Context(command, info_name=f"logitproof {name}", max_content_width=100, terminal_width=100)
    usage = " ".join(command.collect_usage_pieces(context))
    text = [" ".join(block.split()) for block in (command.help or "").replace("\b", "").split("\n\n")]
    lines = ["```", f"logitproof {name} {usage}", "```", *(line for block in text for line in ("", block))]
    options = [parameter for parameter in command.params if isinstance(parameter, click.Option) and not parameter.hidden]
    if options:
        lines += ["", "| option | what it does |", "|---|---|"]
    for option in options:
        record = option.get_help_record(context)
        assert record is not None
        named, about = (part.replace("|", "\\|").replace("\n", " ") for part in record)
        lines.append(f"| `{named}` | {about.strip()} |")
    return lines


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
    sys.exit(0)
