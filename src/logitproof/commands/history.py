"""`logitproof history`, `history compare` and `history bisect`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from logitproof.commands._exits import FIRST_COMMIT, SHOWN, Exits, ends_with
from logitproof.commands._options import AS_JSON

if TYPE_CHECKING:
    from logitproof.runs.recorded import Recorded


class _Group(click.Group):
    """A group whose command `show` need not be named."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or (args[0] not in self.commands and args[0] not in ("-h", "--help")):
            args = ["show", *args]
        return super().parse_args(ctx, args)


@click.group("history", cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """Show what earlier runs came to, and what changed.

    Every run is recorded in a SQLite file of the user, or in the database whose URL LOGITPROOF_HISTORY gives. `logitproof
    history [CONTRACT]` is `history show`.
    """


@ends_with(SHOWN)
@command.command("show")
@click.argument("contract", required=False)
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="Runs, newest first.")
@AS_JSON
def show(contract: str | None, limit: int, as_json: bool) -> None:
    """Show the latest runs and, of one contract, every gate over them.

    CONTRACT is a contract's name or its file.
    """
    from logitproof.commands._answer import tell
    from logitproof.contract.opened import open_contract
    from logitproof.runs.history_text import answer_runs, trend
    from logitproof.runs.ledger import read_ledger

    name = contract or ""
    if contract and Path(contract).is_file():
        name = open_contract(Path(contract)).contract.contract
    runs = read_ledger().runs(name, limit)
    tell(trend(runs, name), answer_runs(runs, name), as_json=as_json)


@ends_with(Exits("nothing that was recorded changed", "something changed"))
@command.command("compare")
@click.argument("before", metavar="RUN")
@click.argument("after", metavar="RUN")
@AS_JSON
def compare(before: str, after: str, as_json: bool) -> None:
    """Say what changed from one run to another.

    RUN is a run folder, or the beginning of a run's id. Exit code 1: something changed.
    """
    from logitproof.commands._answer import tell
    from logitproof.runs.history_text import answer_changes, compared
    from logitproof.runs.recorded import changes

    first, second = _run(before), _run(after)
    tell(compared(first, second), answer_changes(first, second, changes(first, second)), as_json=as_json)


@ends_with(FIRST_COMMIT)
@command.command("bisect")
@click.argument("contract", type=click.Path(path_type=Path))
@click.option("--good", required=True, metavar="REV", help="A revision of the engine at which the contract passes.")
@click.option("--bad", required=True, metavar="REV", help="A later one at which it fails.")
@click.option("--repo", type=click.Path(path_type=Path, file_okay=False), default=Path(), help="The engine's; default: here.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Folder of the runs; default runs/bisect.")
@AS_JSON
@click.argument("build", nargs=-1, required=True, metavar="-- BUILD COMMAND")
def bisect(contract: Path, good: str, bad: str, build: tuple[str, ...], as_json: bool, **places: Any) -> None:
    """Find the first commit of an engine at which a contract fails.

    git halves the commits between a good and a bad revision; at each the build command and the contract are run. A
    commit that cannot be built or comes to no verdict is skipped. Exit code 3: skipped commits hide the first bad one.
    """
    from logitproof.commands._answer import tell
    from logitproof.commands._say import say
    from logitproof.runs.bisect import bisect
    from logitproof.runs.history_text import answer_bisected, bisected

    out = places["out"] or Path("runs") / "bisect"
    bisection = bisect(contract, places["repo"], (good, bad), build, out=out, say=say)
    tell(bisected(bisection, str(contract)), answer_bisected(bisection, str(contract)), as_json=as_json)


def _run(name: str) -> Recorded:
    """A run by its folder or by the beginning of its id."""
    from logitproof.runs.ledger import read_ledger
    from logitproof.runs.recorded import recorded_in

    return recorded_in(Path(name)) if Path(name).is_dir() else read_ledger().find(name)
