"""`logitproof decompose`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

VERDICTS = {True: "inside", False: "OUTSIDE"}


@click.command("decompose")
@click.argument("run", type=click.Path(path_type=Path, file_okay=False))
@click.option("--runs", type=click.IntRange(0), default=8, show_default=True, help="Runs under noise for the bands; 0: none.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
def command(run: Path, runs: int, as_json: bool) -> None:
    """Part what quantization took from what the engine adds.

    RUN is a finished run against the original weights. The reference runs again on each quantized file, dequantized. Each part
    stands beside its band: what these weights lose, calculated in float64, and what the engine's rounding adds at most. Exit
    code 1: a part is outside of its band.
    """
    from logitproof.calibration.decompose import METRICS, decompose, is_inside

    if runs == 1:
        raise click.BadParameter("one run has no spread: ask for at least 2, or 0 for no bands", param_hint="--runs")
    found = decompose(run, runs, say=lambda line: click.echo(line, err=True))
    if as_json:
        click.echo(json.dumps([one.as_json() for one in found], indent=1))
    else:
        for one in found:
            click.echo(f"{one.cell}, {one.positions} positions; the engine's share of the squared error is {one.share:.0%}")
            click.echo(f"  {'':13} {'KL, nats':>9}  {'band':21} {'logits':>9}  {'band, RMS':21}".rstrip())
            rows = (
                ("all of it", one.total, None),
                ("quantization", one.quantization, one.quantization_band),
                ("engine", one.engine, one.engine_band),
            )
            for name, part, band in rows:
                said = " ".join(_with_band(part[metric], band[metric] if band else None) for metric in METRICS)
                click.echo(f"  {name:13} {said} {'' if band is None else VERDICTS[is_inside(part, band)]}".rstrip())
            if one.reason:
                click.echo(f"  no bands: {one.reason}")
    sys.exit(1 if any(one.inside is False for one in found) else 0)


def _with_band(value: float, band: tuple[float, float] | None) -> str:
    said = "" if band is None else f"{band[0]:.2e} to {band[1]:.2e}"
    return f"{value:9.2e}  {said:21}"
