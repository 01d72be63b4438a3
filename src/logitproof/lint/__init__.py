"""Lint: what is wrong with a contract before anything runs.

To add a rule, put a file here with one subclass of `Rule`; its `codes` are what it may say, and `look` yields a
`Finding` for each fault. Files are read and binaries are asked for their help; no model is loaded.

    class Mine(Rule):
        "What it looks at."
        codes = {"LP900": "what the code means"}

        def look(self, opened):
            yield self.finding(opened, "LP900", "gates", 0, text="what is wrong here", remedy="what to do")
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import ClassVar

from logitproof import catalog
from logitproof.contract.opened import OpenContract, open_contract
from logitproof.errors import ContractError, did_you_mean
from logitproof.files.yaml import parts_of
from logitproof.jobs.plan import matrix_cells

UNREADABLE = "LP000"
OF_A_MACHINE = ("LP030", "LP070", "LP080")
MISSING = "LP070"
"""Where a file is not on this machine, what would be found in it is not known: no leave is called idle."""
"""Findings that are there on one machine and not on another: leave for them is right where nothing is found, too."""
WAIVED = {
    "LP007": "leave for a finding of lint that has ended",
    "LP008": "leave for a finding of lint that is not there",
}


@dataclass(frozen=True)
class Finding:
    """One fault of a contract: greppable as `file:line: CODE text (remedy)`."""

    code: str
    file: str
    line: int
    text: str
    remedy: str
    at: str = ""
    """the key of the contract that it is at"""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.code} {self.text} ({self.remedy})"


class Rule:
    """One kind of fault."""

    codes: ClassVar[Mapping[str, str]] = {}

    def look(self, opened: OpenContract) -> Iterator[Finding]:
        """Yield what is wrong with an open contract."""
        raise NotImplementedError

    def finding(self, opened: OpenContract, code: str, *keys: str | int, text: str, remedy: str) -> Finding:
        """A finding at an entry of the contract, or at its nearest parent that has a line."""
        assert code in self.codes, code
        at = ".".join(map(str, keys))
        known = (opened.lines.get(keys[:count]) for count in range(len(keys), 0, -1))
        return Finding(code, str(opened.path), next((line for line in known if line), 1), text, remedy, at)


def codes() -> dict[str, str]:
    """Every code and what it means."""
    every = {
        UNREADABLE: "the contract cannot be opened: unknown keys, wrong values, ids that stand twice, missing files",
        **WAIVED,
    }
    for name in catalog.entries("lint"):
        every |= catalog.load("lint", name).codes
    return dict(sorted(every.items()))


def lint(path: Path) -> list[Finding]:
    """Every finding of a contract, in the order of its lines."""
    try:
        opened = open_contract(path)
        matrix_cells(opened)
    except ContractError as error:
        faults = [_unreadable(fault, path) for fault in (error, *error.others)]
        return sorted(faults, key=lambda finding: finding.line)
    rules = [catalog.load("lint", name)() for name in catalog.entries("lint")]
    findings = [finding for rule in rules for finding in rule.look(opened)]
    return sorted(_unwaived(opened, findings), key=lambda finding: (finding.line, finding.code))


def _unreadable(error: ContractError, path: Path) -> Finding:
    file, line, entry = parts_of(error.where, path)
    text = f"{entry}: {error.text}" if entry else error.text
    return Finding(UNREADABLE, file, line, text, error.remedy or "correct it; see docs/contract.md")


class _Leave(Rule):
    """What the contract's own `lint` says."""

    codes: ClassVar[Mapping[str, str]] = WAIVED


def _unwaived(opened: OpenContract, findings: list[Finding]) -> Iterator[Finding]:
    """The findings that the contract does not let stand, and what is wrong with its leave."""
    today, used = date.today(), set[int]()
    for finding in findings:
        covering = [
            index
            for index, waiver in enumerate(opened.contract.lint)
            if waiver.code == finding.code and (not waiver.at or f"{finding.at}.".startswith(f"{waiver.at}."))
        ]
        used.update(covering)
        if not any(today <= opened.contract.lint[index].until for index in covering):
            yield finding
    leave, unseen = _Leave(), any(finding.code == MISSING for finding in findings)
    for index, waiver in enumerate(opened.contract.lint):
        if waiver.code not in (known := codes()):
            text = f"lint has no code {waiver.code!r}{did_you_mean(waiver.code, list(known))}"
            remedy = "the codes stand in docs/contract.md"
            yield leave.finding(opened, "LP008", "lint", index, text=text, remedy=remedy)
        elif today > waiver.until:
            text = f"the leave for {waiver.code} ended on {waiver.until}"
            remedy = "mend the fault, or give a new end and reason"
            yield leave.finding(opened, "LP007", "lint", index, text=text, remedy=remedy)
        elif index not in used and waiver.code not in OF_A_MACHINE and not unseen:
            text = f"nothing is found any more of {waiver.code}{f' at {waiver.at}' if waiver.at else ''}"
            yield leave.finding(opened, "LP008", "lint", index, text=text, remedy="take the leave out")
