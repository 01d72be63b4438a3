"""`logitproof decompose`."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.command("decompose")
@click.argument("run", type=click.Path(path_type=Path, file_okay=False))
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
def command(run: Path, as_json: bool) -> None:
    """Part the divergence of quantized cells into what quantization took and what the engine adds.

    RUN is a finished run against the original weights. The reference runs again on each quantized file, dequantized.
    """
    from logitproof.decompose import decompose

    found = decompose(run, say=lambda line: click.echo(line, err=True))
    if as_json:
        click.echo(json.dumps([one.as_json() for one in found], indent=1))
        return
    click.echo(
        f"{'cell':44} {'positions':>9} {'KL total':>10} {'quantized':>10} {'engine':>10}   RMS: quantized, engine, its share"
    )
    for one in found:
        kl = " ".join(f"{part['kl_divergence']:10.2e}" for part in (one.total, one.quantization, one.engine))
        rms = f"{one.quantization['rms_delta_logit']:.2e}, {one.engine['rms_delta_logit']:.2e}, {one.share:.0%}"
        click.echo(f"{one.cell:44} {one.positions:9} {kl}   {rms}")
