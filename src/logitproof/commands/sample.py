"""`logitproof sample`."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

import click


@click.command("sample")
@click.argument("reference", metavar="REF")
@click.argument("candidate", metavar="CAND")
@click.option("--suite", default="smoke-10", show_default=True, help="Prompts: a shipped suite or a file.")
@click.option("--temperature", type=click.FloatRange(min=0, min_open=True), default=0.7, show_default=True)
@click.option("--top-k", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--top-p", type=click.FloatRange(min=0, max=1, min_open=True), default=1.0, show_default=True)
@click.option("--min-p", type=click.FloatRange(min=0, max=1), default=0.0, show_default=True)
@click.option("--completions", type=click.IntRange(2), default=24, show_default=True, help="Drawn a prompt and engine.")
@click.option("--tokens", type=click.IntRange(1), default=32, show_default=True, help="Length of a completion.")
@click.option("--permutations", type=click.IntRange(99), default=500, show_default=True)
@click.option("--alpha", type=click.FloatRange(0, 1), default=0.05, show_default=True, help="Level of the test.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--json", "as_json", is_flag=True)
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
    """Test by their completions alone whether two engines sample from one distribution.

    REF and CAND are ENGINE:MODEL?option=value. Exit code 1 where equality is rejected. A test that does not reject
    proves little by itself, so the power against a repetition penalty of 1.1 is measured beside it where REF can. Where
    CAND tells its noise, every token that it draws is foretold from its own logits as well, and must be that one.
    """
    from dataclasses import replace

    from logitproof.contract.suite import open_suite
    from logitproof.errors import Missing
    from logitproof.jobs.address import parse_address
    from logitproof.jobs.workers import Workers
    from logitproof.protocol.sampler import Sampling
    from logitproof.quality.draws import Drawing, compared_sides, power, replayed_side

    sides = parse_address(reference, where="REF"), parse_address(candidate, where="CAND")
    drawing = Drawing(completions, tokens, Sampling(temperature, top_k, top_p, min_p), permutations)
    prompts = drawing.spread(open_suite(suite, Path(), where="--suite").prompts)
    with Workers() as workers:
        found = compared_sides(workers, *sides, prompts, drawing, seed)
        penalized = replace(drawing, sampling=replace(drawing.sampling, repetition_penalty=1.1))
        seen = power(workers, sides[0], prompts, drawing, penalized, alpha, trials=5)
        again = replayed_side(workers, sides[1], prompts)
    wrong = [] if isinstance(again, Missing) else again.faults
    if as_json:
        data = {"alpha": alpha, "differs": found.differs(alpha), "power": seen}
        replay = again.reason if isinstance(again, Missing) else asdict(again)
        click.echo(json.dumps({**asdict(found), **data, "replay": replay}, indent=2))
    else:
        said = "different" if found.differs(alpha) else "not different"
        click.echo(f"{said}: MMD² {found.mmd:.4g}, p = {found.p_value:.3g} (alpha {alpha:g})")
        click.echo(f"{found.completions} completions of {found.prompts} prompts, {found.permutations} permutations")
        click.echo(f"power: {seen:.0%} of 5 trials against a repetition penalty of 1.1 are seen with this many completions")
        if isinstance(again, Missing):
            click.echo(f"seeded sampler: not measured, {again.reason}")
        else:
            click.echo(f"seeded sampler: {again.equal} of {again.draws} tokens foretold, {again.ties} ties, {len(wrong)} wrong")
        for one in wrong[:3]:
            click.echo(f"  {one.prompt}: token {one.position} is {one.drawn}, its noise gives {one.expected}")
    sys.exit(1 if found.differs(alpha) or wrong else 0)
