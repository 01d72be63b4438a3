"""Findings as a document and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from logitproof.contract.history import Unblocked, unblocked
from logitproof.contract.opened import open_contract
from logitproof.documents.answer import Answer
from logitproof.documents.document import Document
from logitproof.documents.section import Line, Text, Verdict
from logitproof.errors import ContractError
from logitproof.lint import Finding


def document(files: Sequence[Path], findings: Sequence[Finding]) -> Document:
    """A line a finding, as compilers write them."""
    names = ", ".join(map(str, files))
    reason = f"{len(findings)} findings, first {findings[0]}" if findings else f"nothing was found in {len(files)} contracts"
    verdict = Verdict("FINDINGS" if findings else "CLEAN", reason, "bad" if findings else "good")
    sections = [Text(tuple(Line(str(finding)) for finding in findings), verbatim=True)] if findings else []
    if items := [item for file in files for item in unblocked_by(file)]:
        lines = tuple(Line(str(item), "good" if item.is_unblocked else "unsure") for item in items)
        sections.append(Text(lines, "Items of other repositories that wait for these contracts"))
    return Document(f"Lint of {names}", verdict, tuple(sections), f"logitproof check {files[0]}" if not findings else "")


def unblocked_by(file: Path) -> list[Unblocked]:
    """The items that wait for a contract; none of one that cannot be opened, which is a finding."""
    try:
        opened = open_contract(file)
    except ContractError:
        return []
    return [unblocked(entry, opened.contract.stages, opened.folder) for entry in opened.contract.unblocks]


def answer(files: Sequence[Path], findings: Sequence[Finding]) -> Answer:
    """A record a finding."""
    items = [asdict(item) for file in files for item in unblocked_by(file)]
    return Answer("lint", " ".join(map(str, files)), 2 if findings else 0, {"findings": list(findings), "unblocks": items})
