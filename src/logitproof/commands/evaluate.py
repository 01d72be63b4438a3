"""`logitproof evaluate`."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

import click

from logitproof.commands._options import AS_JSON


@click.command("evaluate")
@click.argument("engine")
@click.option("--tasks", default="little", show_default=True, help="A JSON Lines file in MMLU's format, or a shipped task.")
@click.option("--against", metavar="ENGINE", help="Another engine on the same questions: flips, McNemar, paired bootstrap.")
@click.option("--limit", type=click.IntRange(1), help="Only so many questions.")
@click.option("--lm-eval", "lm_eval", metavar="TASKS", help="Tasks of lm-evaluation-harness instead, comma-separated.")
@click.option("--include-path", type=click.Path(exists=True), help="Folder of local lm-evaluation-harness tasks.")
@AS_JSON
def command(
    engine: str,
    tasks: str,
    against: str | None,
    limit: int | None,
    lm_eval: str | None,
    include_path: str | None,
    as_json: bool,
) -> None:
    """Multiple-choice accuracy of an engine, alone or compared.

    An engine is ENGINE:MODEL?option=value. With --against the exit code is 1 where McNemar's test says at 5 % that the
    two do not answer equally well.
    """
    from logitproof.jobs.address import parse_address
    from logitproof.jobs.session import opened
    from logitproof.jobs.workers import Workers
    from logitproof.quality.accuracy import answer, paired, read_questions
    from logitproof.quality.likelihood import Likelihood

    side = parse_address(engine)
    if lm_eval:
        from logitproof.quality.lm_eval import run_tasks

        click.echo(json.dumps(run_tasks(side, lm_eval.split(","), limit, include_path), indent=1, default=str))
        return
    questions = read_questions(tasks)[:limit]
    sides = [side] + ([parse_address(against, where="--against")] if against else [])
    found = []
    with Workers() as workers:
        for one in sides:
            score = Likelihood(*opened(workers, one))
            try:
                found.append(answer(questions, score))
            finally:
                score.close()
    both = paired(found[1], found[0]) if against else None
    if as_json:
        accuracy = found[0].accuracy
        data = {
            "accuracy": accuracy.value,
            "interval": accuracy.interval,
            "questions": len(questions),
            "answers": found[0].chosen,
        }
        click.echo(json.dumps({**data, "paired": asdict(both) if both else None}, indent=1))
    else:
        for one, answers in zip(sides, found, strict=True):
            click.echo(f"{one.name}: accuracy {answers.accuracy}")
        if both:
            low, high = both.interval
            click.echo(f"{both.flips} answers flip, {both.lost} lost, {both.won} won; McNemar p = {both.p_value:.3g}")
            click.echo(f"difference of accuracy {both.difference:+.2%} (95 % {low:+.2%} to {high:+.2%})")
    sys.exit(1 if both and both.p_value <= 0.05 else 0)
