"""Writes docs/commands.md from the commands themselves: `python docs/commands_table.py`.

What stands in `EXITS` is the only part that is typed: what each exit code of a command means.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import click

from logitproof.cli import main as LOGITPROOF

PAGE = Path(__file__).with_name("commands.md")
VERDICT = (
    "every gate holds",
    "a gate fails, a cell is WRONG, or a planted bug is not caught",
    "nothing was proven: an engine failed",
)
WRITTEN = ("it is written", "", "the disk or an engine failed")
SHOWN = ("it is shown", "", "")
EXITS: dict[str, tuple[str, str, str]] = {
    "acid": (
        "every probe that was measured holds, or the probes are written",
        "one does not",
        "the engine failed, or nothing was measured",
    ),
    "attest": WRITTEN,
    "bisect commits": ("the first bad commit is found", "", "commits that could not be tried hide it"),
    "bisect layers": ("the first bad layer is found", "", "settings that could not be tried hide it"),
    "bisect options": ("the first bad option is found", "", "settings that could not be tried hide it"),
    "bisect values": ("the first bad value is found", "", "settings that could not be tried hide it"),
    "calibrate": ("bands are written", "", "no cell has a calculated band, or an engine failed"),
    "capture": ("the logits are kept", "", "the engine failed"),
    "check": VERDICT,
    "compare": ("they were compared, however far apart they are", "", "nothing was measured"),
    "convert": WRITTEN,
    "decompose": ("every part is inside its band", "one is not", "an engine failed"),
    "dequantize": WRITTEN,
    "diagnose": ("nothing diverges", "a known bug explains it", "it stays unexplained"),
    "doctor": ("a real engine answers", "", "none does"),
    "engines install": ("it is made and answers", "", "it cannot be made, or does not answer"),
    "engines list": SHOWN,
    "evaluate": ("both answer equally well, or there is one", "McNemar's test says that they do not", "an engine failed"),
    "fabricate": WRITTEN,
    "freeze": WRITTEN,
    "gguf export": WRITTEN,
    "gguf make": WRITTEN,
    "history bisect": ("the first bad commit is found", "", "commits that could not be tried hide it"),
    "history compare": ("nothing that was recorded changed", "something changed", ""),
    "history show": SHOWN,
    "judge": VERDICT,
    "kernels": ("every kind was measured", "", "an engine failed"),
    "kl": ("every candidate was measured, however far it is", "", "an engine failed"),
    "lint": ("nothing was found", "", ""),
    "list": SHOWN,
    "localize": ("every operation is right", "one is wrong", "an engine failed, or nothing was compared"),
    "lora": WRITTEN,
    "mutations list": SHOWN,
    "mutations show": SHOWN,
    "new": WRITTEN,
    "pin": WRITTEN,
    "protocol test": ("every rule that applies is kept", "one is broken", "nothing was asked, or the engine does not answer"),
    "quality": ("every expectation is met", "one is not", "nothing was measured, or an engine failed"),
    "rotate": WRITTEN,
    "sample": ("equality is not rejected", "it is rejected, or a foretold token is another", "an engine failed"),
    "sensitivity": ("every unit was measured, however much it costs", "", "a library is missing, or the logits are not finite"),
    "serve": ("it was ended", "", ""),
    "suite pick": ("no prompt hangs on a tie", "reserves ran out: some still do", "an engine failed"),
    "suite show": SHOWN,
    "tokenizer": ("ids and templates are the same", "they differ", "an engine failed"),
    "verify": ("all is as pinned", "", ""),
    "verify-evidence": ("it is genuine: PASS", "it is genuine: FAIL", "it is genuine: ERROR, nothing was proven"),
}
"""By command: what 0, 1 and 3 mean; nothing where a command never gives that code."""
TWO = {
    "lint": "something was found",
    "verify": "something differs",
    "verify-evidence": "it is not genuine, of another contract, or a set-up ERROR",
}
"""Where 2 means more than a wrong contract, command line or file."""


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
    for name in every:
        passed, failed, nothing = EXITS[name]
        cells = (passed, failed or "–", TWO.get(name, "set-up"), nothing or "–")
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
