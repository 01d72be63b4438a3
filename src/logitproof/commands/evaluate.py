"""`logitproof evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from logitproof.commands._exits import Exits, ends_with
from logitproof.commands._hub import DOWNLOAD
from logitproof.commands._options import AS_JSON
from logitproof.commands._paths import EXISTING


@ends_with(Exits("both answer equally well, or there is one", "McNemar's test says that they do not", "an engine failed"))
@click.command("evaluate")
@click.argument("engine")
@click.option("--tasks", default="little", show_default=True, help="A JSON Lines file in MMLU's format, or a shipped task.")
@click.option("--against", metavar="ENGINE", help="Another engine on the same questions: flips, McNemar, paired bootstrap.")
@click.option("--limit", type=click.IntRange(1), help="Only so many questions.")
@click.option("--lm-eval", "lm_eval", metavar="TASKS", help="Tasks of lm-evaluation-harness instead, comma-separated.")
@click.option("--include-path", type=EXISTING, help="Folder of local lm-evaluation-harness tasks.")
@AS_JSON
@DOWNLOAD
def command(
    engine: str,
    tasks: str,
    against: str | None,
    limit: int | None,
    lm_eval: str | None,
    include_path: Path | None,
    as_json: bool,
) -> None:
    """Multiple-choice accuracy of an engine, alone or compared.

    An engine is ENGINE:MODEL?option=value. With --against the exit code is 1 where McNemar's test says at 5 % that the
    two do not answer equally well.
    """
    from logitproof.commands._answer import tell
    from logitproof.documents.answer import Answer
    from logitproof.jobs.address import parse_address
    from logitproof.jobs.session import opened
    from logitproof.jobs.workers import Workers
    from logitproof.quality.accuracy import answer, paired, read_questions
    from logitproof.quality.likelihood import Likelihood
    from logitproof.quality.text import of_answers

    side = parse_address(engine)
    if lm_eval:
        from logitproof.quality.lm_eval import run_tasks

        results = run_tasks(side, lm_eval.split(","), limit, str(include_path) if include_path else None)
        click.echo(Answer("lm-eval", f"{engine} on {lm_eval}", 0, {name: _plain(row) for name, row in results.items()}).text())
        return
    questions = read_questions(tasks)[:limit]
    sides = [side] + ([parse_address(against, where="--against")] if against else [])
    answers = []
    with Workers() as workers:
        for asked in sides:
            score = Likelihood(*opened(workers, asked))
            try:
                answers.append(answer(questions, score))
            finally:
                score.close()
    pairing = paired(answers[1], answers[0]) if against else None
    accuracy = answers[0].accuracy
    data = {
        "accuracy": accuracy.value,
        "interval": accuracy.interval,
        "questions": len(questions),
        "answers": answers[0].chosen,
    }
    about = f"{engine} against {against}" if against else engine
    result = Answer("evaluate", about, 1 if pairing and pairing.p_value <= 0.05 else 0, {**data, "paired": pairing})
    tell(of_answers([asked.name for asked in sides], answers, pairing), result, as_json=as_json)


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """A task's results, in which the harness leaves numbers of NumPy and functions."""
    return {
        name: value if isinstance(value, int | float | str | list | dict | None) else str(value) for name, value in row.items()
    }
