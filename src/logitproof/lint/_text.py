"""Findings as a document and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from logitproof.documents.answer import Answer
from logitproof.documents.document import Document
from logitproof.documents.section import Line, Text, Verdict
from logitproof.lint import Finding


def document(files: Sequence[Path], found: Sequence[Finding]) -> Document:
    """A line a finding, as compilers write them."""
    names = ", ".join(map(str, files))
    reason = f"{len(found)} findings, first {found[0]}" if found else f"nothing was found in {len(files)} contracts"
    verdict = Verdict("FINDINGS" if found else "CLEAN", reason, "bad" if found else "good")
    sections = (Text(tuple(Line(str(finding)) for finding in found), verbatim=True),) if found else ()
    return Document(f"Lint of {names}", verdict, sections, f"logitproof check {files[0]}" if not found else "")


def answer(files: Sequence[Path], found: Sequence[Finding]) -> Answer:
    """A record a finding."""
    return Answer("lint", " ".join(map(str, files)), 2 if found else 0, {"findings": list(found)})
