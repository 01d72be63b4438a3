"""Findings as a document and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from logitproof.documents.answer import Answer
from logitproof.documents.document import Document
from logitproof.documents.section import Line, Text, Verdict
from logitproof.lint import Finding


def document(files: Sequence[Path], findings: Sequence[Finding]) -> Document:
    """A line a finding, as compilers write them."""
    names = ", ".join(map(str, files))
    reason = f"{len(findings)} findings, first {findings[0]}" if findings else f"nothing was found in {len(files)} contracts"
    verdict = Verdict("FINDINGS" if findings else "CLEAN", reason, "bad" if findings else "good")
    sections = (Text(tuple(Line(str(finding)) for finding in findings), verbatim=True),) if findings else ()
    return Document(f"Lint of {names}", verdict, sections, f"logitproof check {files[0]}" if not findings else "")


def answer(files: Sequence[Path], findings: Sequence[Finding]) -> Answer:
    """A record a finding."""
    return Answer("lint", " ".join(map(str, files)), 2 if findings else 0, {"findings": list(findings)})
