"""A run that came to no verdict: what stopped it, laid out where a verdict would stand."""

from __future__ import annotations

import importlib.metadata
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from logitproof.documents.document import Document
from logitproof.documents.section import Line, Text, Verdict
from logitproof.errors import ContractError, LogitproofError
from logitproof.files.yaml import parts_of

INTERRUPTED, CRASHED = 130, 70
"""Exit codes of a run that was stopped from outside, and of a fault of logitproof itself (EX_SOFTWARE of sysexits.h)."""


@dataclass(frozen=True)
class Fault:
    """One thing that stopped a run: the line of the contract (1 where none is to blame), what is wrong and the remedy."""

    file: str
    line: int
    key: str
    text: str
    remedy: str = ""


@dataclass(frozen=True)
class Unfinished:
    """A run over the contract in the file `path`, called `contract` as far as anybody can tell, with what stopped it."""

    contract: str
    path: Path
    status: str
    exit_code: int
    faults: tuple[Fault, ...]
    made_at: str
    version: str

    @property
    def reason(self) -> str:
        """The first fault in one line."""
        first, *others = self.faults
        more = f" (and {len(others)} more)" if others else ""
        return f"{first.text.splitlines()[0]}{more}"

    @property
    def words(self) -> list[str]:
        """Every fault with its place and remedy, a line each."""
        lines = []
        for fault in self.faults:
            lines.append(f"{fault.file}:{fault.line}: {fault.text}")
            if fault.remedy:
                lines.append(f"remedy: {fault.remedy}")
        return lines

    def document(self) -> Document:
        """What people read where a report would be."""
        shown: list[Line] = []
        for fault in self.faults:
            shown.append(Line(f"{fault.file}:{fault.line}", "unsure"))
            shown += [Line(line, level=1) for line in fault.text.splitlines()]
            if fault.remedy:
                shown.append(Line(f"remedy: {fault.remedy}", level=1))
        shown.append(Line(f"Nothing was judged. Exit code {self.exit_code}, {self.made_at}.", "quiet"))
        next_command = f"logitproof lint {self.path}" if self.exit_code == ContractError.exit_code else ""
        verdict = Verdict("ERROR", f"the run came to no verdict: {self.reason}", "unsure")
        return Document(self.contract, verdict, (Text(tuple(shown), "What stopped it"),), next_command)


def unfinished(error: BaseException, path: Path, contract: str) -> Unfinished:
    """What an error that ended a run says of it."""
    made_at = datetime.now(UTC).isoformat(timespec="seconds")
    version = importlib.metadata.version("logitproof")
    if isinstance(error, LogitproofError):
        status = "SET-UP ERROR" if isinstance(error, ContractError) else "ENGINE ERROR"
        own = (error, *error.others) if isinstance(error, ContractError) else (error,)
        faults = tuple(_fault(fault, path) for fault in own)
        return Unfinished(contract, path, status, error.exit_code, faults, made_at, version)
    if isinstance(error, KeyboardInterrupt):
        fault = Fault(str(path), 1, "", "it was interrupted", "run the same command again: what was measured is kept")
        return Unfinished(contract, path, "INTERRUPTED", INTERRUPTED, (fault,), made_at, version)
    text = f"a fault of logitproof itself: {type(error).__name__}: {error}"
    fault = Fault(str(path), 1, "", text, "report it with the traceback that the command printed")
    return Unfinished(contract, path, "CRASHED", CRASHED, (fault,), made_at, version)


def _fault(error: LogitproofError, path: Path) -> Fault:
    file, line, key = parts_of(error.where, path)
    known = Path(file).suffix in (".yaml", ".yml")
    text = f"{key}: {error.text}" if key and known else f"{error.where}: {error.text}" if error.where else error.text
    return Fault(file if known else str(path), line if known else 1, key, text, error.remedy)
