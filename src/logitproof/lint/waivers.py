"""Waivers end, lead to an issue and mean something."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator, Mapping
from datetime import date, timedelta
from typing import ClassVar

from logitproof.contract.opened import OpenContract
from logitproof.jobs.plan import matrix_cells
from logitproof.lint import Finding, Rule

LONGEST = timedelta(days=366)
LINK = re.compile(r"https?://\S+|[\w.-]+/[\w.-]+#\d+|#\d+|[A-Z][A-Z0-9]+-\d+|\S+/\d+")
"""An address, or an issue as trackers write it."""


class Waivers(Rule):
    """Known divergences that are excused, and cells that may stay unmeasured."""

    codes: ClassVar[Mapping[str, str]] = {
        "LP050": "a waiver that leads to no issue",
        "LP051": "a waiver that has ended, or has no end within a year",
        "LP052": "a waiver of a cell or a prompt that the contract does not have",
        "LP053": "leave to stay unmeasured that covers every cell",
        "LP054": "leave to stay unmeasured that covers no cell",
    }

    def look(self, opened: OpenContract) -> Iterator[Finding]:
        """Look at every waiver and at the leave to stay unmeasured."""
        today, cells = date.today(), [cell.id for cell in matrix_cells(opened)]
        prompts = [prompt.sha256 for suite in opened.suites for prompt in suite.prompts]
        for index, waiver in enumerate(opened.contract.waivers):
            keys = ("waivers", index)
            if not LINK.fullmatch(waiver.issue.strip()):
                text = f"the issue {waiver.issue!r} of the waiver {waiver.id!r} is no link"
                yield self.finding(opened, "LP050", *keys, text=text, remedy="name the issue that tracks it")
            if waiver.until < today:
                text = f"the waiver {waiver.id!r} ended on {waiver.until}"
                yield self.finding(opened, "LP051", *keys, text=text, remedy="take it out, or give it a new end and a reason")
            elif waiver.until > today + LONGEST:
                text = f"the waiver {waiver.id!r} ends on {waiver.until}, more than a year from now"
                yield self.finding(opened, "LP051", *keys, text=text, remedy="let it end within a year")
            if not any(fnmatch.fnmatchcase(cell, waiver.cell) for cell in cells):
                text = f"the waiver {waiver.id!r} is for {waiver.cell!r}, and no cell is called so"
                yield self.finding(opened, "LP052", *keys, text=text, remedy="correct the glob, or take it out")
            if not any(prompt.startswith(waiver.prompt) for prompt in prompts):
                text = f"no prompt has the sha256 {waiver.prompt[:12]}… of the waiver {waiver.id!r}"
                yield self.finding(opened, "LP052", *keys, text=text, remedy="the prompt changed: take the waiver out")
        for index, glob in enumerate(opened.contract.may_be_unmeasured):
            if not any(fnmatch.fnmatchcase(cell, glob) for cell in cells):
                text = f"{glob!r} gives leave to no cell: none is called so"
                remedy = "correct the glob, or take it out"
                yield self.finding(opened, "LP054", "may_be_unmeasured", index, text=text, remedy=remedy)
            elif all(fnmatch.fnmatchcase(cell, glob) for cell in cells):
                text = f"{glob!r} lets every cell stay unmeasured"
                yield self.finding(opened, "LP053", "may_be_unmeasured", index, text=text, remedy="name the cells that may")
