"""`logitproof calibrate`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from logitproof.commands._options import OUT, PARALLEL


@click.command("calibrate")
@click.argument("contract", type=click.Path(path_type=Path))
@click.option("--only", default="*", metavar="GLOB", help="Only cells whose id matches.")
@click.option("--runs", type=click.IntRange(2), default=8, show_default=True, help="Repetitions under noise.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of every random number.")
@click.option("--power", is_flag=True, help="Plant known bugs: what each band and gate would catch.")
@OUT
@PARALLEL
def command(contract: Path, only: str, runs: int, seed: int, power: bool, out: Path | None, parallel: int) -> None:
    """Calculate how far a healthy engine may be from the reference.

    What is calculated is written beside the contract. The reference is run again with the rounding errors of each
    candidate's arithmetic; no candidate computes anything. Bands
    with `bound: calibrated` and gates with `at_most: calibrated` are judged by what is written here. With --power a verdict
    says of each band and gate which known bugs it would catch. Exit code 3: no cell has a calculated band.
    """
    from logitproof.calibration.calibrate import calibrate_contract
    from logitproof.calibration.text import as_yaml
    from logitproof.contract.contract import open_contract
    from logitproof.traces.store import Store

    opened = open_contract(contract)
    store = Store((out or Path("runs") / opened.contract.contract) / "store")
    say = lambda line: click.echo(line, err=True)  # noqa: E731
    found = calibrate_contract(opened, store, only=only, runs=runs, seed=seed, power=power, parallel=parallel, say=say)
    click.echo(as_yaml(opened, found))
    written = {one.path for one in found if one.path}
    click.echo(f"{len(written)} calibrations for {sum(one.path is not None for one in found)} of {len(found)} cells", err=True)
    sys.exit(0 if written else 3)
