"""An active contract says which files and versions it is about."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar

from logitproof.contract.opened import OpenContract
from logitproof.errors import ContractError
from logitproof.jobs.specs import reference_name
from logitproof.lint import Finding, Rule
from logitproof.runs.pins import read_pins


class Pinned(Rule):
    """The pins of a contract."""

    codes: ClassVar[Mapping[str, str]] = {
        "LP060": "an active contract without pins",
        "LP061": "pins that cannot be read",
        "LP062": "pins that leave out weights, an engine, a source or a licence",
    }

    def look(self, opened: OpenContract) -> Iterator[Finding]:
        """Read the pins file; hashes are compared by `verify`, not here."""
        contract = opened.contract
        if contract.pins is None:
            if contract.status == "active":
                remedy = f"logitproof pin {opened.path.name}"
                yield self.finding(opened, "LP060", "status", text="the contract is active and pins nothing", remedy=remedy)
            return
        try:
            pins = read_pins(opened.folder / contract.pins)
        except ContractError as error:
            text = f"{contract.pins}: {error.text}"
            yield self.finding(opened, "LP061", "pins", text=text, remedy=error.remedy or "pin again")
            return
        for name, files in contract.models.items():
            for quantization in files:
                if quantization not in pins.models.get(name, {}):
                    text = f"the pins leave out {name} {quantization}"
                    yield self.finding(opened, "LP062", "models", name, quantization, text=text, remedy="pin again")
        for name in ("reference", *map(reference_name, contract.others), *contract.candidates):
            if name not in pins.engines:
                yield self.finding(opened, "LP062", "pins", text=f"the pins leave out the engine {name}", remedy="pin again")
        if contract.status == "active":
            bare = [
                f"{name} {q}"
                for name, models in pins.models.items()
                for q, model in models.items()
                if not (model.source and model.license)
            ]
            if bare:
                text = f"the pins of {bare[0]} name no source or no licence"
                yield self.finding(opened, "LP062", "pins", text=text, remedy="write `source` and `license` into the pins file")
