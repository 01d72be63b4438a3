"""What a contract lists is compared: weights that no cell reads are told, since a PASS looks as if they were."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar

from logitproof.contract.contract import ORIGINAL, OpenContract
from logitproof.jobs.plan import matrix_cells
from logitproof.lint import Finding, Rule


class Listed(Rule):
    """Weights under `models`."""

    codes: ClassVar[Mapping[str, str]] = {"LP063": "weights that are listed and that no cell reads"}

    def look(self, opened: OpenContract) -> Iterator[Finding]:
        """Compare the labels of every model with those of its cells."""
        contract = opened.contract
        witness = {contract.witness.weights} if contract.witness else set()
        cells = matrix_cells(opened)
        for name, files in contract.models.items():
            read = {cell.quantization for cell in cells if cell.model == name} | {ORIGINAL} | witness
            for label in (label for label in files if label not in read):
                text = f"{files[label]} is listed as {label} of {name}, and no cell reads it"
                remedy = f"add {label} to `matrix: quantization`, or take the file out"
                yield self.finding(opened, "LP063", "models", name, label, text=text, remedy=remedy)
