"""`logitproof bisect`: the first commit, option, value or layer at which a contract fails."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from logitproof.commands._exits import FIRST_SETTING, Exits, ends_with
from logitproof.commands._options import AS_JSON
from logitproof.commands.history import bisect as commits

if TYPE_CHECKING:
    from collections.abc import Sequence

    from logitproof.runs.bisect import Setting

CONTRACT = click.argument("contract", type=click.Path(path_type=Path))
CANDIDATE = click.argument("candidate")
OUT = click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Folder of the runs; default runs/bisect.")


@click.group("bisect", context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """Find the first commit, option or layer that is bad.

    What is tried stands in an order, good at its begin and bad at its end, and is halved. What comes to no verdict is skipped.
    """


command.add_command(commits, "commits")


@ends_with(Exits("the first bad option is found", nothing=FIRST_SETTING))
@command.command("options")
@CONTRACT
@CANDIDATE
@click.argument("pairs", nargs=-1, required=True, metavar="NAME=VALUE...")
@OUT
@AS_JSON
def options(contract: Path, candidate: str, pairs: tuple[str, ...], out: Path | None, as_json: bool) -> None:
    """Find which of several options of a candidate breaks the contract.

    With the options of the contract it passes, with all of these it fails; they are set one after another. Exit code 3:
    skipped settings hide the first bad one.
    """
    from logitproof.jobs.address import parse_options
    from logitproof.runs.bisect import one_after_another

    _answer(contract, candidate, one_after_another(parse_options(pairs)), out, as_json)


@ends_with(Exits("the first bad value is found", nothing=FIRST_SETTING))
@command.command("values")
@CONTRACT
@CANDIDATE
@click.argument("name")
@click.argument("values", nargs=-1, required=True, metavar="VALUE...")
@OUT
@AS_JSON
def values(contract: Path, candidate: str, name: str, values: tuple[str, ...], **rest: Any) -> None:
    """Find the first value of an option at which the contract fails.

    The values stand in an order, such as versions, sizes or threads: it passes with the first and fails with the last.
    """
    from logitproof.jobs.address import parse_options
    from logitproof.runs.bisect import values_of

    parsed = [parse_options([f"{name}={value}"])[name] for value in values]
    _answer(contract, candidate, values_of(name, parsed), rest["out"], rest["as_json"])


@ends_with(Exits("the first bad layer is found", nothing=FIRST_SETTING))
@command.command("layers")
@CONTRACT
@CANDIDATE
@click.argument("name")
@click.argument("count", type=click.IntRange(1))
@OUT
@AS_JSON
def layers(contract: Path, candidate: str, name: str, count: int, **rest: Any) -> None:
    """Find the first layer whose precision breaks the contract.

    NAME is the option of the engine that lists the layers it computes in float32, COUNT how many layers there are. It passes
    with all of them in float32 and fails with none.
    """
    from logitproof.runs.bisect import layers_of

    _answer(contract, candidate, layers_of(name, count), rest["out"], rest["as_json"])


def _answer(contract: Path, candidate: str, settings: Sequence[Setting], out: Path | None, as_json: bool) -> None:
    from logitproof.commands._answer import tell
    from logitproof.commands._say import say
    from logitproof.errors import ContractError
    from logitproof.runs.bisect import bisect_settings
    from logitproof.runs.history_text import answer_settings, settings_bisected

    if len(settings) < 2:
        raise ContractError("one setting leaves nothing to halve", where=candidate, remedy="name a good and a bad one")
    bisection = bisect_settings(contract, candidate, settings, out=out or Path("runs") / "bisect", say=say)
    tell(settings_bisected(bisection, str(contract), candidate), answer_settings(bisection, str(contract)), as_json=as_json)
