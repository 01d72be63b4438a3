"""A band that says which measured kernels it rests on names rows that are there, healthy, and of its weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar

from logitproof.contract.kernel_rows import linked
from logitproof.contract.opened import OpenContract
from logitproof.errors import ContractError
from logitproof.lint import Finding, Rule


class Kernels(Rule):
    """The kernel baselines of the bands."""

    codes: ClassVar[Mapping[str, str]] = {
        "LP080": "a kernel baseline that cannot be read",
        "LP081": "a band rests on kernels that are not in the baseline, have changed, are off, or are of other weights",
    }

    def look(self, opened: OpenContract) -> Iterator[Finding]:
        """Look up every row that a band names."""
        for index, band in enumerate(opened.contract.bands):
            if band.rests_on is None:
                continue
            keys = ("bands", index, "rests_on")
            try:
                rows = linked(band.rests_on, band.where.quantization or [], opened.folder)
            except ContractError as error:
                remedy = error.remedy or "logitproof kernels MODEL --quant TYPE --out FILE"
                yield self.finding(opened, "LP080", *keys, text=error.text, remedy=remedy)
                continue
            for problem in rows.problems:
                remedy = "measure again with `logitproof kernels`, and name its rows: ENGINE PRECISION KIND NAME"
                yield self.finding(opened, "LP081", *keys, text=problem, remedy=remedy)
