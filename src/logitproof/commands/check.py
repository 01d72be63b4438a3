"""`logitproof check`."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from logitproof.commands._exits import VERDICT, ends_with
from logitproof.commands._hub import DOWNLOAD
from logitproof.commands._options import JSON, OUT, PARALLEL
from logitproof.commands._show import show

if TYPE_CHECKING:
    from logitproof.jobs.cluster.executor import RayCluster
    from logitproof.runs.kept import Keep


@ends_with(VERDICT)
@click.command("check")
@click.argument("contract", type=click.Path(path_type=Path))
@OUT
@click.option("--only", default="*", metavar="GLOB", help="Cells to run, such as 'mine/*/Q8_0/*'.")
@click.option("--resume/--fresh", default=True, help="Reuse what an earlier run measured, or measure all again.")
@click.option(
    "--keep",
    type=click.Choice(["all", "compact", "failing", "none"]),
    default="all",
    show_default=True,
    help="Prompts whose logits stay on disk (compact: all, in a third of the bytes); `judge` needs none.",
)
@PARALLEL
@click.option("--ray", "address", metavar="HOST:PORT", help="Run engines on the nodes of a Ray cluster (docs/scale.md).")
@click.option("--store", "store_url", default="", metavar="URL", help="Share traces there, at file:// or any URL of fsspec.")
@JSON
@DOWNLOAD
def command(
    contract: Path,
    out: Path | None,
    only: str,
    resume: bool,
    keep: Keep,
    parallel: int,
    address: str | None,
    store_url: str,
    as_json: bool,
) -> None:
    """Run a contract: engines, comparison, verdict, report."""
    from logitproof.commands._progress import shown_progress
    from logitproof.commands._say import say
    from logitproof.commands._unfinished import told_if_unfinished
    from logitproof.contract.opened import open_contract
    from logitproof.runs.workspace import Workspace

    with told_if_unfinished(contract, out), shown_progress(quiet=as_json) as on_progress, contextlib.ExitStack() as stack:
        opened = open_contract(contract)
        executor = stack.enter_context(_cluster(address)) if address is not None else None
        space = Workspace(out or Path("runs") / opened.contract.contract)
        report = space.check(
            opened,
            only=only,
            fresh=not resume,
            parallel=parallel,
            keep=keep,
            executor=executor,
            store_url=store_url,
            on_progress=on_progress,
            on_preflight=_say,
        )
    for line in space.note.splitlines():
        say(line)
    show(report, space.folder, as_json, next_command=space.next_command(report, contract))


def _cluster(address: str) -> RayCluster:
    from logitproof.jobs.cluster.executor import RayCluster

    return RayCluster(address)


def _say(preflight: Any) -> None:
    """One line before any engine computes, and every finding: a long run may be stopped here."""
    from logitproof.commands._say import say
    from logitproof.documents.console import messages

    # not by a console of its own, which would write behind the bar into its line
    for line in messages(preflight.document()):
        say(line)
