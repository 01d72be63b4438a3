"""`logitproof verify`."""

from __future__ import annotations

from pathlib import Path

import click

from logitproof.commands._exits import Exits, ends_with
from logitproof.commands._options import AS_JSON


@ends_with(Exits("all is as pinned", wrong="something differs"))
@click.command("verify")
@click.argument("file", type=click.Path(path_type=Path))
@AS_JSON
def command(file: Path, as_json: bool) -> None:
    """Compare what is pinned with what is here, offline.

    Give a contract or its pins file. No engine is started. Of a contract that names no pins, those that `pin` wrote
    beside it are read.
    """
    from logitproof.commands._answer import tell
    from logitproof.contract.opened import open_contract
    from logitproof.errors import ContractError
    from logitproof.runs.pins import default_pins, read_pins, verify_files
    from logitproof.runs.pins_text import answer, document

    opened, path = None, file
    if ".pins." not in file.name:
        opened = open_contract(file)
        path = default_pins(opened)
        if opened.contract.pins is None and not path.is_file():
            remedy = f"logitproof pin {file}; or give verify the pins file, if it has a name of its own"
            raise ContractError(f"names no pins, and there is no {path.name} beside it", where=str(file), remedy=remedy)
    pins = read_pins(path)
    differences = verify_files(pins, path.parent if opened is None else opened.folder, opened)
    tell(document(path, pins, differences, opened), answer(path, differences), as_json=as_json)
