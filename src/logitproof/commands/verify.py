"""`logitproof verify`."""

from __future__ import annotations

import sys
from pathlib import Path

import click


@click.command("verify")
@click.argument("file", type=click.Path(path_type=Path))
def command(file: Path) -> None:
    """Compare what is pinned with what is on this disk, offline.

    Give a contract or its pins file. No engine is started.
    """
    from logitproof.contract.contract import open_contract
    from logitproof.errors import ContractError
    from logitproof.runs.pins import read_pins, verify_files

    opened, path = None, file
    if ".pins." not in file.name:
        opened = open_contract(file)
        if opened.contract.pins is None:
            raise ContractError("names no pins", where=str(file), remedy=f"logitproof pin {file}")
        path = opened.folder / opened.contract.pins
    pins = read_pins(path)
    differences = verify_files(pins, path.parent if opened is None else opened.folder, opened)
    for one in differences:
        click.echo(f"{'error' if one.fault else 'note'}: {one}", err=True)
    faults = sum(one.fault for one in differences)
    files = sum(len(model.files) for models in pins.models.values() for model in models.values())
    suites = f", {len(pins.suites)} suites" if opened else "; suites are verified with the contract"
    click.echo(f"{path}: {files} files{suites}: {f'{faults} differ' if faults else 'all as pinned'}")
    sys.exit(2 if faults else 0)
