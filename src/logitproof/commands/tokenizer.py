"""`logitproof tokenizer`."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

import click

from logitproof.commands._options import AS_JSON

SHOWN = 12


@click.command("tokenizer")
@click.argument("reference", metavar="REF")
@click.argument("candidate", metavar="CAND")
@click.option("--corpus", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Lines of text to try as well.")
@click.option("--fuzzed", type=click.IntRange(0), default=200, show_default=True, help="Random strings to try.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the random text.")
@AS_JSON
def command(reference: str, candidate: str, corpus: Path | None, fuzzed: int, seed: int, as_json: bool) -> None:
    """Compare two tokenizers, and the chat templates of models.

    The text is hard, and random. REF and CAND are ENGINE:MODEL?option=value. Exit code 1 where ids or templates differ;
    the smallest string that tells
    the two apart is printed. A text that does not come back from its ids is told, and is no difference of the two.
    """
    from logitproof.jobs.address import parse_address
    from logitproof.jobs.session import open_side
    from logitproof.jobs.workers import Workers
    from logitproof.quality.chat_template import compare_templates, template_of
    from logitproof.quality.tokenizers import compare_tokenizers

    sides = parse_address(reference, where="REF"), parse_address(candidate, where="CAND")
    lines = corpus.read_text("utf-8").splitlines() if corpus else []
    # Two sides of one engine and the same options must not share a process: it would hold the second model alone.
    with Workers() as first, Workers() as second:
        ours, theirs = open_side(first, sides[0]), open_side(second, sides[1])
        trips = [("reference", ours.tokenize, ours.detokenize), ("candidate", theirs.tokenize, theirs.detokenize)]
        found = compare_tokenizers(
            ours.tokenize, theirs.tokenize, trips, corpus=[line for line in lines if line], fuzzed=fuzzed, seed=seed
        )
    rendered = compare_templates(*(template_of(side.model) for side in sides))
    differs = bool(found.differences or rendered)
    if as_json:
        data = {**asdict(found), "templates": [asdict(one) for one in rendered], "differs": differs}
        click.echo(json.dumps(data, indent=1))
        sys.exit(1 if differs else 0)
    for one in found.differences[:SHOWN]:
        click.echo(f"✘ {one.name}: {one.smallest!r} is {list(one.reference)} for the reference, {list(one.candidate)} here")
    if len(found.differences) > SHOWN:
        click.echo(f"… and {len(found.differences) - SHOWN} more")
    for trip in found.trips[:SHOWN]:
        click.echo(f"note: {trip.side}, {trip.name}: {trip.text!r} comes back as {trip.back!r}")
    for text in rendered:
        at = text.first
        click.echo(
            f"✘ chat template, {text.name}: from character {at} on {text.reference[at : at + 60]!r} for the reference, "
            f"{text.candidate[at : at + 60]!r} here"
        )
    click.echo(
        f"{found.tried} texts: {len(found.differences)} are cut differently, {len(found.trips)} do not come back; "
        f"chat template: {'differs' if rendered else 'the same'}"
    )
    sys.exit(1 if differs else 0)
