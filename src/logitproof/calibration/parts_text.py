"""A divergence in its parts as a document and as JSON."""

from __future__ import annotations

from collections.abc import Sequence

from logitproof.calibration.decompose import METRICS, Parts, is_inside
from logitproof.calibration.parts import Band
from logitproof.documents.answer import Answer
from logitproof.documents.document import Document
from logitproof.documents.section import Column, Line, Row, Table, Text, Verdict

KIND = "decompose"
COLUMNS = (
    Column(""),
    Column("KL, nats", "number"),
    Column("band"),
    Column("logits", "number"),
    Column("band, RMS"),
    Column(""),
)
VERDICTS = {True: "inside", False: "OUTSIDE"}


def document(cells: Sequence[Parts]) -> Document:
    """A table a cell: all of it, what quantization took, what the engine adds, each beside its band."""
    return Document("What quantization took and what the engine adds", verdict(cells), tuple(_sections(cells)))


def verdict(cells: Sequence[Parts]) -> Verdict:
    """The first part that is outside of its band decides."""
    outside = [parts for parts in cells if parts.inside is False]
    unknown = [parts for parts in cells if parts.inside is None]
    if outside:
        return Verdict("OUTSIDE", f"{outside[0].cell}: {_share(outside[0])}", "bad")
    if unknown:
        without = f"{unknown[0].cell} has no bands{f', {unknown[0].reason}' if unknown[0].reason else ''}; {_share(unknown[0])}"
        return Verdict("MEASURED", without, "unsure")
    return Verdict("INSIDE", f"{len(cells)} cells are inside of their bands", "good")


def answer(cells: Sequence[Parts], about: str) -> Answer:
    """A record a cell."""
    code = 1 if any(parts.inside is False for parts in cells) else 0
    return Answer(KIND, about, code, {"cells": [parts.as_json() for parts in cells]})


def _share(parts: Parts) -> str:
    return f"the engine's share of the squared error is {parts.share:.0%}"


def _sections(cells: Sequence[Parts]) -> list[Table | Text]:
    sections: list[Table | Text] = []
    for parts in cells:
        rows = (
            _row("all of it", parts.total, None),
            _row("quantization", parts.quantization, parts.quantization_band),
            _row("engine", parts.engine, parts.engine_band),
        )
        sections.append(Table(COLUMNS, rows, f"{parts.cell}, {parts.positions} positions; {_share(parts)}"))
        if parts.reason:
            sections.append(Text((Line(f"no bands: {parts.reason}", "unsure"),)))
    return sections


def _row(name: str, part: dict[str, float], band: Band | None) -> Row:
    cells = []
    for metric in METRICS:
        cells += [f"{part[metric]:.2e}", "" if band is None else f"{band[metric][0]:.2e} to {band[metric][1]:.2e}"]
    inside = None if band is None else is_inside(part, band)
    return Row((name, *cells, "" if inside is None else VERDICTS[inside]), "bad" if inside is False else "plain")
