"""What is pinned against what is on the disk, as a document and as JSON."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from logitproof.contract.opened import OpenContract
from logitproof.documents.answer import Answer
from logitproof.documents.document import Document
from logitproof.documents.section import Line, Text, Verdict, lines
from logitproof.runs.pins import Difference, Pins


def document(path: Path, pins: Pins, differences: Sequence[Difference], opened: OpenContract | None) -> Document:
    """Every difference with its remedy; `opened` where suites could be verified too."""
    faults = [difference for difference in differences if difference.fault]
    files = sum(len(model.files) for models in pins.models.values() for model in models.values())
    suites = f", {len(pins.suites)} suites" if opened else "; suites are verified with the contract"
    summary = f"{len(faults)} differ, first {faults[0].place}" if faults else "all as pinned"
    reason = f"{path}: {files} files{suites}: {summary}"
    verdict = Verdict("DIFFERENT", reason, "bad") if faults else Verdict("AS PINNED", reason, "good")
    parts = [_lines(difference) for difference in differences]
    shown = [line for part in parts for line in part]
    if opened is not None and opened.contract.pins is None:
        shown.append(Line(f"next: {name_them(opened, path)}"))
    sections = (Text(tuple(shown)),) if shown else ()
    return Document(f"Pins of {path}", verdict, sections)


def name_them(opened: OpenContract, path: Path) -> str:
    """What is left to do where a contract does not name its pins: until then no run verifies them."""
    name = os.path.relpath(path, opened.folder)
    return f"write `pins: {name}` into {opened.path}, so that every run verifies them"


def answer(path: Path, differences: Sequence[Difference]) -> Answer:
    """A record a difference."""
    code = 2 if any(difference.fault for difference in differences) else 0
    return Answer("verify", str(path), code, {"differences": list(differences)})


def _lines(difference: Difference) -> tuple[Line, ...]:
    first, *rest = lines(f"{'error' if difference.fault else 'note'}: {difference}", "bad" if difference.fault else "plain")
    return (first, *(Line(line.text.strip(), level=1) for line in rest))
