"""`logitproof quality`."""

from __future__ import annotations

from pathlib import Path

import click

from logitproof.commands._exits import Exits, ends_with
from logitproof.commands._hub import DOWNLOAD
from logitproof.commands._options import MIN_P, OUT, PARALLEL, TEMPERATURE, TOP_K, TOP_P


@ends_with(Exits("every expectation is met", "one is not", "nothing was measured, or an engine failed"))
@click.command("quality")
@click.argument("contract", type=click.Path(path_type=Path))
@OUT
@TEMPERATURE
@TOP_K
@TOP_P
@MIN_P
@click.option("--completions", type=click.IntRange(2), default=12, show_default=True, help="Drawn a prompt and engine.")
@click.option("--no-sampling", is_flag=True, help="Draw no completions: nothing is said of samplers.")
@PARALLEL
@click.option("--json", "as_json", is_flag=True, help="Print quality.json to stdout instead of a table.")
@DOWNLOAD
def command(
    contract: Path,
    out: Path | None,
    temperature: float,
    top_k: int,
    top_p: float,
    min_p: float,
    completions: int,
    no_sampling: bool,
    parallel: int,
    as_json: bool,
) -> None:
    """Run a contract and report generation quality.

    Greedy match, KL divergence, distributions, samplers and drift are measured.
    """
    from logitproof.commands._answer import tell
    from logitproof.commands._progress import shown_progress
    from logitproof.commands._say import say
    from logitproof.commands._unfinished import told_if_unfinished
    from logitproof.contract.opened import open_contract
    from logitproof.protocol.sampler import Sampling
    from logitproof.quality.adapters import adapter_distances
    from logitproof.quality.draws import Drawing, compared_candidates
    from logitproof.quality.report import answer, document, write
    from logitproof.quality.sections import qualities
    from logitproof.runs.workspace import Workspace

    with told_if_unfinished(contract, out), shown_progress(quiet=as_json) as on_progress:
        opened = open_contract(contract)
        space = Workspace(out or Path("runs") / opened.contract.contract)
        report = space.check(opened, parallel=parallel, on_progress=on_progress)
    sampling = Sampling(temperature, top_k, top_p, min_p)
    tests = {}
    if not no_sampling:
        drawing = Drawing(completions=completions, sampling=sampling)
        tests = compared_candidates(opened, list(report.compared), drawing, say)
    measured = qualities(report, sampling, tests, adapters=adapter_distances(report))
    path = write(report, measured, space.folder / "quality")
    say(f"report: {path}")
    tell(document(report, measured), answer(report, measured), as_json=as_json)
