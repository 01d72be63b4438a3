"""`logitproof compare`."""

from __future__ import annotations

from pathlib import Path

import click

from logitproof.commands._exits import Exits, ends_with


@ends_with(Exits("they were compared, however far apart they are", nothing="nothing was measured"))
@click.command("compare")
@click.argument("reference", type=click.Path(path_type=Path))
@click.argument("candidate", type=click.Path(path_type=Path))
@click.option("--floor", type=float, metavar="NATS", help="Least log-probability of any token, for top-k dumps.")
@click.option("--reason", default="", help="Why no token lies below the floor.")
@click.option("--missing", default="", metavar="REASON", help="Why one side may lack rows or prompts that the other has.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def command(reference: Path, candidate: Path, floor: float | None, reason: str, missing: str, as_json: bool) -> None:
    """Compare two captures or dumps: metrics only, no verdict.

    A verdict needs a contract. Where a dump holds the top-k only, KL divergence is given as bounds. What only one side holds is
    counted and fails, unless --missing says why it may.
    """
    from logitproof.commands._answer import tell
    from logitproof.documents.answer import Answer
    from logitproof.golden.pairing import lacking, refuse_the_same
    from logitproof.golden.text import of_comparison as document

    refuse_the_same(reference, candidate)
    if all((side / "capture.json").exists() for side in (reference, candidate)):
        from logitproof.jobs.capture import compare_captures

        summary = compare_captures(reference, candidate)
    else:
        from logitproof.golden.compare import compare_dumps
        from logitproof.readers import open_dump
        from logitproof.rows.bounds import Floor

        assumed = None if floor is None else Floor(floor, reason)
        summary = compare_dumps(open_dump(reference), open_dump(candidate), assumed)
    code = 1 if lacking(summary) and not missing else 0
    tell(document(summary, missing), Answer("compare", f"{candidate} against {reference}", code, summary), as_json=as_json)
