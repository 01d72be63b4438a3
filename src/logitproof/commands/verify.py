"""`logitproof verify`."""

from __future__ import annotations

from pathlib import Path

import click

from logitproof.commands._options import AS_JSON


@click.command("verify")
@click.argument("file", type=click.Path(path_type=Path))
@AS_JSON
def command(file: Path, as_json: bool) -> None:
    """Compare what is pinned with what is here, offline.

    Give a contract or its pins file. No engine is started.
    """
    from logitproof.commands._answer import tell
    from logitproof.contract.contract import open_contract
    from logitproof.errors import ContractError
    from logitproof.runs.pins import read_pins, verify_files
    from logitproof.runs.pins_text import answer, document

    opened, path = None, file
    if ".pins." not in file.name:
        opened = open_contract(file)
        if opened.contract.pins is None:
            raise ContractError("names no pins", where=str(file), remedy=f"logitproof pin {file}")
        path = opened.folder / opened.contract.pins
    pins = read_pins(path)
    differences = verify_files(pins, path.parent if opened is None else opened.folder, opened)
    tell(document(path, pins, differences, opened), answer(path, differences), as_json=as_json)
