"""`logitproof quality`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from logitproof.commands._options import OUT, PARALLEL


@click.command("quality")
@click.argument("contract", type=click.Path(path_type=Path))
@OUT
@click.option("--temperature", type=click.FloatRange(min=0, min_open=True), default=0.7, show_default=True)
@click.option("--top-k", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--top-p", type=click.FloatRange(min=0, max=1, min_open=True), default=1.0, show_default=True)
@click.option("--min-p", type=click.FloatRange(min=0, max=1), default=0.0, show_default=True)
@click.option("--completions", type=click.IntRange(2), default=12, show_default=True, help="Drawn a prompt and engine.")
@click.option("--no-sampling", is_flag=True, help="Draw no completions: nothing is said of samplers.")
@PARALLEL
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
) -> None:
    """Run a contract and report generation quality: greedy match, KL, distributions, samplers, drift."""
    from rich.console import Console
    from rich.table import Table

    from logitproof.commands._progress import shown_progress
    from logitproof.contract.contract import open_contract
    from logitproof.documents.wording import visible
    from logitproof.protocol.sampler import Sampling
    from logitproof.quality.adapters import adapter_distances
    from logitproof.quality.draws import Drawing, compared_candidates
    from logitproof.quality.report import write
    from logitproof.quality.sections import qualities
    from logitproof.runs.workspace import Workspace

    opened = open_contract(contract)
    space = Workspace(out or Path("runs") / opened.contract.contract)
    with shown_progress() as on_progress:
        report = space.check(opened, parallel=parallel, on_progress=on_progress)
    sampling = Sampling(temperature, top_k, top_p, min_p)
    tests = {}
    if not no_sampling:
        drawing = Drawing(completions=completions, sampling=sampling)
        tests = compared_candidates(opened, list(report.compared), drawing, lambda text: click.echo(text, err=True))
    found = qualities(report, sampling, tests, adapters=adapter_distances(report))
    path = write(report, found, space.folder / "quality")
    table = Table("", "candidate", "section", "what was found", box=None, pad_edge=False)
    for one in found:
        for section in one.sections:
            mark = {"met": "[green]✔", "missed": "[bold red]✘", "not measured": "[magenta]?"}[section.met]
            table.add_row(mark, visible(f"{one.candidate} {one.model} {one.quantization}"), section.name, visible(section.said))
    Console().print(table)
    met = sum(one.meets_bar for one in found)
    click.echo(f"{met} of {len(found)} meet their bar; report: {path}")
    sys.exit(3 if report.verdict.status == "ERROR" or not found else 0 if met == len(found) else 1)
