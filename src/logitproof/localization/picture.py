"""The pictures of a localization: operations layer by layer, what is inside the wrong ones, and the error token by token."""

from __future__ import annotations

import math
from collections.abc import Iterator

from logitproof.documents.section import Chart, Field, Grid, GridLine, Series, Shade
from logitproof.localization.axes import Axis
from logitproof.localization.localize import Row
from logitproof.localization.located import Located
from logitproof.protocol import taps

SHADES: dict[str, Shade] = {"same": "right", "carried": "carried", "differs": "wrong"}
LEGEND: tuple[tuple[Shade, str], ...] = (
    ("right", "right"),
    ("carried", "right, on input that was already wrong"),
    ("wrong", "wrong by itself"),
)
DRAWN = 24
"""Axes of wrong operations that are drawn."""
LINES = 6
"""Boundaries whose error is drawn token by token."""
EVERY = 8


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


def inside(candidate: Located) -> Grid:
    """The error of each wrong operation along its dimensions: a square for each head, pair, expert, position or key."""
    drawn = [(row.tap, axis) for row in candidate.localization.rows for axis in row.axes][:DRAWN]
    longest = max(len(axis.errors) for _, axis in drawn)
    columns = tuple("" if number % EVERY else str(number) for number in range(longest))
    lines = tuple(GridLine(f"{_short(tap)} by {axis.name}", tuple(_squares(tap, axis))) for tap, axis in drawn)
    places = [f"{tap}: {axis.text}" for tap, axis in drawn if axis.text]
    alt = f"The error inside wrong operations. {'; '.join(places) or 'It is spread over all of each'}."
    legend: tuple[tuple[Shade, str], ...] = (("right", "right"), ("wrong", "wrong by itself"), ("none", "not used"))
    return Grid(columns, lines, legend, alt, f"{candidate.name}, inside wrong operations", detail=True)


def compounded(candidate: Located, start: int | None) -> Chart:
    """The accumulated error of the boundaries, token by token."""
    every = candidate.localization.compounding
    chosen = {int(number): every[int(number)] for number in _spread(len(every))}.values()
    series = tuple(Series(row.tap, tuple((float(at), error) for at, error in enumerate(row.errors))) for row in chosen)
    last = every[-1]
    generated = f"; from position {start} on they were generated" if start is not None and start < len(last.errors) else ""
    alt = f"{last.tap}: from {last.errors[0]:.2g} at the first token to {last.errors[-1]:.2g} at the last{generated}."
    title = f"{candidate.name}, error token by token"
    return Chart("lines", series, "position", "relative error", alt, title, logarithmic=True, detail=True)


def _spread(count: int) -> list[float]:
    """As many numbers as are drawn, from the first to the last."""
    steps = min(LINES, count)
    return [number * (count - 1) / max(steps - 1, 1) for number in range(steps)]


def _squares(tap: str, axis: Axis) -> Iterator[Field | None]:
    for number, error in enumerate(axis.errors):
        title = f"{tap}, {axis.name} {number}: {'not used' if error is None else f'{error:.2g}'}"
        shade: Shade = "none" if error is None else "wrong" if number in axis.wrong else "right"
        yield Field("", title, shade)


def _short(tap: str) -> str:
    return tap.removeprefix("layers.")


def _field(row: Row) -> Field:
    error = row.accumulated if row.isolated is None else row.isolated
    text = "∞" if not math.isfinite(error) else "" if error == 0 else f"{math.floor(math.log10(error))}"
    isolated = "not known" if row.isolated is None else f"{row.isolated:.2g}"
    title = f"{row.tap}: own error {isolated}, accumulated {row.accumulated:.2g}"
    return Field(text, title, SHADES.get(row.status, "none"))
