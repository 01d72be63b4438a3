"""`logitproof suite`."""

from __future__ import annotations

from pathlib import Path

import click

from logitproof.commands._exits import SHOWN, Exits, ends_with
from logitproof.commands._hub import DOWNLOAD
from logitproof.commands._options import AS_JSON


@click.group("suite")
def command() -> None:
    """Suites of prompts: what is shipped, and one free of ties."""


@ends_with(SHOWN)
@command.command("show")
@click.argument("name", metavar="SUITE")
def show(name: str) -> None:
    """Kinds, prompts and hash of a shipped suite or a suite file."""
    from collections import Counter

    from logitproof.commands._say import note
    from logitproof.contract.suite import open_suite

    suite = open_suite(name, Path(), where="SUITE")
    kinds = ", ".join(f"{count} {bucket}" for bucket, count in Counter(prompt.bucket for prompt in suite.prompts).items())
    note(f"{suite.suite}: {len(suite.prompts)} prompts ({kinds})")
    note(f"sha256 {suite.sha256}, {'frozen' if suite.frozen else 'not frozen: the file names no hash'}")


@ends_with(Exits("no prompt hangs on a tie", "reserves ran out: some still do", "an engine failed"))
@command.command("pick")
@click.argument("reference", metavar="REFERENCE")
@click.option("--suite", "name", default="quality-100", show_default=True, help="The suite to start from.")
@click.option("--reserve", default="reserve", show_default=True, help="A suite of prompts that may stand in, by bucket.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="The new suite file.")
@click.option(
    "--tie",
    type=click.FloatRange(min=0, min_open=True),
    default=0.15,
    show_default=True,
    help="Logits: a smaller margin is a tie.",
)
@click.option("--tokens", type=click.IntRange(1), default=10, show_default=True, help="New tokens whose margins count.")
@AS_JSON
@DOWNLOAD
def pick(reference: str, name: str, reserve: str, out: Path, tie: float, tokens: int, as_json: bool) -> None:
    """Freeze a suite without prompts that hang on a tie.

    It is a tie of REFERENCE (ENGINE:MODEL?option=value) that a greedy match would hang on. Every such prompt is replaced
    by a reserve of the same bucket. Exit code 1 where reserves run out: the file is
    written, and says which prompts still hang.
    """
    from logitproof.commands._answer import tell
    from logitproof.commands._say import say
    from logitproof.contract.suite import open_suite
    from logitproof.documents.answer import Answer
    from logitproof.jobs.address import parse_address
    from logitproof.jobs.workers import Workers
    from logitproof.quality.picker import check_new, pick_for, write_picked
    from logitproof.quality.text import of_picked

    check_new(out)
    side = parse_address(reference, where="REFERENCE")
    suites = (open_suite(name, Path(), where="--suite"), open_suite(reserve, Path(), where="--reserve"))
    with Workers() as workers:
        worker = workers.of(side.spec, "reference")
        worker.hello()
        loaded = worker.load(side.model, side.config)
        picked = pick_for(worker, loaded, *suites, tie=tie, tokens=tokens, on_prompt=say)
    frozen = write_picked(picked, out, reference, tie, tokens)
    rows = [
        {**vars(hanging), "prompt": hanging.prompt.id, "reserve": hanging.reserve and hanging.reserve.id}
        for hanging in picked.hanging
    ]
    data = {"out": str(out), "sha256": frozen.sha256, "hanging": rows, "tried": picked.tried}
    answer = Answer("suite-pick", str(out), 1 if picked.left else 0, data)
    tell(of_picked(picked, str(out), frozen.sha256), answer, as_json=as_json)
