"""`logitproof decompose`."""

from __future__ import annotations

from pathlib import Path

import click

from logitproof.commands._exits import Exits, ends_with
from logitproof.commands._hub import DOWNLOAD
from logitproof.commands._paths import RUN


@ends_with(Exits("every part is inside its band", "one is not", "an engine failed"))
@click.command("decompose")
@click.argument("run", type=RUN, metavar="RUN|CONTRACT")
@click.option("--runs", type=click.IntRange(0), default=8, show_default=True, help="Runs under noise for the bands; 0: none.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
@DOWNLOAD
def command(run: Path, runs: int, as_json: bool) -> None:
    """Part what quantization took from what the engine adds.

    RUN is a finished run against the original weights. The reference runs again on each quantized file, dequantized. Each part
    stands beside its band: what these weights lose, calculated in float64, and what the engine's rounding adds at most. Exit
    code 1: a part is outside of its band.
    """
    from logitproof.calibration.decompose import decompose
    from logitproof.calibration.parts_text import answer, document
    from logitproof.commands._answer import tell
    from logitproof.commands._say import say

    if runs == 1:
        raise click.BadParameter("one run has no spread: ask for at least 2, or 0 for no bands", param_hint="--runs")
    parts = decompose(run, runs, say=say)
    tell(document(parts), answer(parts, str(run)), as_json=as_json)
