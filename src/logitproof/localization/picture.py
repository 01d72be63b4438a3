"""The picture of a localization: a square for each operation of each layer, dark where its own error is."""

from __future__ import annotations

import math

from logitproof.documents.section import Field, Grid, GridLine, Shade
from logitproof.localization.localize import Row
from logitproof.localization.located import Located
from logitproof.protocol import taps

SHADES: dict[str, Shade] = {"same": "right", "carried": "carried", "differs": "wrong"}
LEGEND: tuple[tuple[Shade, str], ...] = (
    ("right", "right"),
    ("carried", "right, on input that was already wrong"),
    ("wrong", "wrong by itself"),
)


def picture(candidate: Located) -> Grid:
    """Layers below one another, operations beside one another, and last what belongs to no layer."""
    rows = {row.tap: row for row in candidate.localization.rows}
    leaves = [leaf for leaf in taps.LAYER if any(taps.split(name)[1] == leaf for name in rows)]
    layers = sorted({layer for name in rows if (layer := taps.split(name)[0]) is not None})
    lines = [(f"layer {layer}", [rows.get(f"layers.{layer}.{leaf}") for leaf in leaves]) for layer in layers]
    lines += [(name, [row]) for name, row in rows.items() if taps.split(name)[0] is None]
    drawn = tuple(GridLine(name, tuple(_field(row) if row else None for row in fields)) for name, fields in lines)
    return Grid(tuple(leaves), drawn, LEGEND, _alt(candidate), f"{candidate.name}, operation by operation", detail=True)


def _alt(candidate: Located) -> str:
    localization = candidate.localization
    counts = {status: sum(row.status == status for row in localization.rows) for status in SHADES}
    wrong = f": {', '.join(localization.broken)}" if localization.broken else ""
    return (
        f"Of {len(localization.rows)} operations {counts['same']} are right, {counts['carried']} are right on input "
        f"that was already wrong, {counts['differs']} are wrong by themselves{wrong}. "
        "A number is the power of ten of the relative error."
    )


def _field(row: Row) -> Field:
    error = row.accumulated if row.isolated is None else row.isolated
    text = "∞" if not math.isfinite(error) else "" if error == 0 else f"{math.floor(math.log10(error))}"
    isolated = "not known" if row.isolated is None else f"{row.isolated:.2g}"
    title = f"{row.tap}: own error {isolated}, accumulated {row.accumulated:.2g}"
    return Field(text, title, SHADES.get(row.status, "none"))
