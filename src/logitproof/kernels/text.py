"""Measured kernels as a document and as a file."""

from __future__ import annotations

from typing import Any

from logitproof.documents.answer import Answer
from logitproof.documents.document import Document
from logitproof.documents.section import Column, Line, Row, Section, Table, Text, Verdict
from logitproof.kernels.measure import left

KIND = "kernels"
COLUMNS = (
    Column("engine"),
    Column("precision"),
    Column("kind"),
    Column("operation"),
    Column("RMS", "number"),
    Column("p99.9", "number"),
    Column("assumed", "number"),
    Column("shape"),
)


def document(measured: dict[str, Any]) -> Document:
    """A row a kernel, the largest errors of a type last."""
    kernels = sorted(measured["kernels"], key=lambda kernel: (kernel["engine"], kernel["precision"], kernel["rms"]))
    sections: list[Section] = [Table(COLUMNS, tuple(_row(kernel) for kernel in kernels))]
    if missing := left(measured):
        sections.append(Text(tuple(Line(f"not measured: {_missing(kernel)}", "unsure") for kernel in missing)))
    isa = measured.get("pinned_to")
    proof = f" on {isa}, proven by {measured['evidence']}" if isa else ""
    return Document(f"Kernels of {measured['model']}{proof}", verdict(measured), tuple(sections))


def verdict(measured: dict[str, Any]) -> Verdict:
    """How far the worst kernel is from what `calibrate` assumes of it."""
    known = [kernel for kernel in measured["kernels"] if kernel["assumed"]]
    worst = max(known, key=lambda kernel: kernel["rms"] / kernel["assumed"], default=None)
    if worst is None:
        return Verdict("MEASURED", f"{len(measured['kernels'])} kernels, none of which has an assumed error")
    times = f"{worst['rms'] / worst['assumed']:.2g} times what is assumed"
    of = f"{worst['engine']} {worst['precision']} {worst['name']}"
    return Verdict("MEASURED", f"{len(measured['kernels'])} kernels; the largest against its assumption is {of}: {times}")


def answer(measured: dict[str, Any]) -> Answer:
    """The file of measured kernels."""
    return Answer(KIND, measured["model"], 0, measured)


def _row(kernel: dict[str, Any]) -> Row:
    assumed = "" if kernel["assumed"] is None else f"{kernel['assumed']:.2e}"
    numbers = (f"{kernel['rms']:.2e}", f"{kernel['p999']:.2e}", assumed, "x".join(map(str, kernel["shape"])))
    return Row((kernel["engine"], kernel["precision"], kernel["kind"], kernel["name"], *numbers))


def _missing(kernel: dict[str, str]) -> str:
    return f"{kernel['engine']} {kernel['kind']} {kernel['name']} {kernel['precision']}: {kernel['reason']}"
