"""`logitproof sample`."""

from __future__ import annotations

from pathlib import Path

import click

from logitproof.commands._exits import Exits, ends_with
from logitproof.commands._hub import DOWNLOAD
from logitproof.commands._options import AS_JSON, MIN_P, TEMPERATURE, TOP_K, TOP_P


@ends_with(Exits("equality is not rejected", "it is rejected, or a foretold token is another", "an engine failed"))
@click.command("sample")
@click.argument("reference", metavar="REF")
@click.argument("candidate", metavar="CAND")
@click.option("--suite", default="smoke-10", show_default=True, help="Prompts: a shipped suite or a file.")
@TEMPERATURE
@TOP_K
@TOP_P
@MIN_P
@click.option("--completions", type=click.IntRange(2), default=24, show_default=True, help="Drawn a prompt and engine.")
@click.option("--tokens", type=click.IntRange(1), default=32, show_default=True, help="Length of a completion.")
@click.option(
    "--permutations",
    type=click.IntRange(99),
    default=500,
    show_default=True,
    help="Permutations that give the p-value.",
)
@click.option("--alpha", type=click.FloatRange(0, 1), default=0.05, show_default=True, help="Level of the test.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of every random number.")
@AS_JSON
@DOWNLOAD
def command(
    reference: str,
    candidate: str,
    suite: str,
    temperature: float,
    top_k: int,
    top_p: float,
    min_p: float,
    completions: int,
    tokens: int,
    permutations: int,
    alpha: float,
    seed: int,
    as_json: bool,
) -> None:
    """Test by completions whether engines sample alike.

    REF and CAND are ENGINE:MODEL?option=value. Exit code 1 where equality is rejected. A test that does not reject
    proves little by itself, so the power against a repetition penalty of 1.1 is measured beside it where REF can. Where
    CAND tells its noise, every token that it draws is foretold from its own logits as well, and must be that one.
    """
    from dataclasses import replace

    from logitproof.commands._answer import tell
    from logitproof.contract.suite import open_suite
    from logitproof.documents.answer import Answer
    from logitproof.errors import Missing
    from logitproof.jobs.address import parse_address
    from logitproof.jobs.workers import Workers
    from logitproof.protocol.sampler import Sampling
    from logitproof.quality.draws import Drawing, compared_sides, power, replayed_side
    from logitproof.quality.text import of_samples

    sides = parse_address(reference, where="REF"), parse_address(candidate, where="CAND")
    drawing = Drawing(completions, tokens, Sampling(temperature, top_k, top_p, min_p), permutations)
    prompts = drawing.spread(open_suite(suite, Path(), where="--suite").prompts)
    with Workers() as workers:
        test = compared_sides(workers, *sides, prompts, drawing, seed)
        penalized = replace(drawing, sampling=replace(drawing.sampling, repetition_penalty=1.1))
        seen = power(workers, sides[0], prompts, drawing, penalized, alpha, trials=5)
        again = replayed_side(workers, sides[1], prompts)
    differs, about = test.differs(alpha), f"{reference} and {candidate}"
    wrong = not isinstance(again, Missing) and bool(again.faults)
    replay = again.reason if isinstance(again, Missing) else again
    data = {**vars(test), "alpha": alpha, "differs": differs, "power": seen, "replay": replay}
    answer = Answer("sample", about, 1 if differs or wrong else 0, data)
    tell(of_samples(about, test, alpha, seen, replay), answer, as_json=as_json)
