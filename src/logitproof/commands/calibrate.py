"""`logitproof calibrate`."""

from __future__ import annotations

from pathlib import Path

import click

from logitproof.commands._exits import Exits, ends_with
from logitproof.commands._hub import DOWNLOAD
from logitproof.commands._options import AS_JSON, OUT, PARALLEL

CALIBRATION = ("calibration/*",)


@ends_with(Exits("bands are written", nothing="no cell has a calculated band, or an engine failed"))
@click.command("calibrate")
@click.argument("contract", type=click.Path(path_type=Path))
@click.option("--only", default="*", metavar="GLOB", help="Only cells whose id matches.")
@click.option("--runs", type=click.IntRange(2), default=8, show_default=True, help="Repetitions under noise.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of every random number.")
@click.option("--power", is_flag=True, help="Plant known bugs: what each band and gate would catch.")
@OUT
@PARALLEL
@AS_JSON
@DOWNLOAD
def command(
    contract: Path, only: str, runs: int, seed: int, power: bool, out: Path | None, parallel: int, as_json: bool
) -> None:
    """Calculate how far a healthy engine may be away.

    What is calculated is written beside the contract. The reference is run again with the rounding errors of each
    candidate's arithmetic; no candidate computes anything. Bands
    with `bound: calibrated` and gates with `at_most: calibrated` are judged by what is written here. With --power a verdict
    says of each band and gate which known bugs it would catch. Exit code 3: no cell has a calculated band.
    """
    from rich.console import Console

    from logitproof.calibration.calibrate import calibrate_contract
    from logitproof.calibration.text import answer, document
    from logitproof.commands._answer import finish
    from logitproof.commands._say import say
    from logitproof.contract.opened import open_contract
    from logitproof.documents.console import show_sections, show_verdict
    from logitproof.documents.pages import write_pages
    from logitproof.runs.place import folder_of, withdraw
    from logitproof.traces.store import Store

    if (before := out or folder_of(contract)) is not None:
        withdraw(before, CALIBRATION)
    opened = open_contract(contract)
    folder = out or Path("runs") / opened.contract.contract
    store = Store(folder / "store")
    calibrated = calibrate_contract(opened, store, only=only, runs=runs, seed=seed, power=power, parallel=parallel, say=say)
    page = document(opened, calibrated)
    write_pages(page, folder / "calibration")
    if not as_json:
        show_sections(page)
        show_verdict(page, Console(stderr=True))
    finish([page], answer(opened, calibrated), as_json=as_json)
