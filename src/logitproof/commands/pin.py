"""`logitproof pin`."""

from __future__ import annotations

from pathlib import Path

import click

from logitproof.commands._exits import WRITTEN, ends_with
from logitproof.commands._hub import DOWNLOAD


@ends_with(WRITTEN)
@click.command("pin")
@click.argument("contract", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="YAML or TOML; default the contract's `pins`.")
@click.option("--engines/--no-engines", default=True, help="Start every engine and pin its versions too.")
@DOWNLOAD
def command(contract: Path, out: Path | None, engines: bool) -> None:
    """Write a pins file: hashes of files, versions of engines.

    The files are weights, tokenizers and suites.
    """
    from logitproof.commands._say import note
    from logitproof.contract.opened import open_contract
    from logitproof.jobs.specs import specs
    from logitproof.jobs.workers import Workers
    from logitproof.runs.pins import default_pins, make_pins, read_pins, write_pins
    from logitproof.runs.pins_text import name_them

    opened = open_contract(contract)
    path = out or default_pins(opened)
    hellos = {}
    if engines:
        with Workers() as workers:
            for engine, hello in workers.hello(specs(opened)).items():
                if isinstance(hello, Exception):
                    raise hello
                hellos[engine] = hello
    pins = make_pins(opened, hellos, read_pins(path) if path.exists() else None)
    write_pins(pins, path)
    files = sum(len(model.files) for models in pins.models.values() for model in models.values())
    note(f"{path}: {files} files of {len(pins.models)} models, {len(pins.suites)} suites, {len(pins.engines)} engines")
    if opened.contract.pins is None:
        note(f"next: {name_them(opened, path)}")
