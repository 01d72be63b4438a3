"""Pictures of a report: the same for its page and for Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from logitproof.bands.band import PositionStatus
from logitproof.documents.section import Chart, Field, Grid, GridLine, Series, Shade
from logitproof.report.report import Report
from logitproof.reporters._explorer import differs_first, worst_prompt
from logitproof.verdict.compared import Compared
from logitproof.verdict.judge import CellVerdict

PROMPTS, BUCKETS, BARS = 16, 56, 12
"""Lines and columns of the still heat map, and bars of the histogram."""
SHADES: dict[PositionStatus, tuple[Shade, str]] = {
    "MATCH": ("right", ""), "DRIFT": ("carried", "~"), "TIE-FLIP": ("tie", "≈"),
    "NOT-MEASURED": ("unknown", "?"), "WRONG": ("wrong", "✘")
}  # fmt: skip
"""How a position is drawn, from what is least to see to what must be seen."""


def pictures(report: Report) -> Iterator[Grid | Chart]:
    """Heat map, KL along positions, first divergences, and the band against what was observed, of the worst cell."""
    if (chosen := worst_cell(report)) is None:
        return
    rows = [row for row in report.compared[chosen.cell] if row.comparison is not None]
    yield _heat(chosen, report.compared[chosen.cell])
    if (along := _along(chosen, rows)) is not None:
        yield along
    if (band := _band(chosen, rows)) is not None:
        yield band
    yield _firsts(report, chosen)


def worst_cell(report: Report) -> CellVerdict | None:
    """The first cell that is not as expected, or the one with the largest KL divergence; nothing where nothing was compared."""
    cells = [cell for cell in report.verdict.cells if any(row.comparison for row in report.compared[cell.cell])]
    cells = [cell for cell in cells if not cell.expected] or cells
    bad = [cell for cell in cells if not cell.as_expected]
    return max(bad or cells, key=lambda cell: cell.metrics.get("kl_divergence", {}).get("max", 0.0), default=None)


def _heat(verdict: CellVerdict, rows: Sequence[Compared]) -> Grid:
    longest = max(len(prompt.statuses) for prompt in verdict.prompts)
    size = max(1, -(-longest // BUCKETS))
    starts = range(0, longest, size)
    order = list(SHADES)
    worst_first = sorted(verdict.prompts, key=lambda prompt: -prompt.statuses.count("WRONG"))[:PROMPTS]
    lines = []
    for prompt in worst_first:
        fields: list[Field | None] = []
        for at in starts:
            part = prompt.statuses[at : at + size]
            if not part:
                fields.append(None)
                continue
            status = max(part, key=order.index)
            span = f"position {at}" if len(part) == 1 else f"positions {at} to {at + len(part) - 1}"
            shade, sign = SHADES[status]
            fields.append(Field(sign, f"{prompt.pair.prompt.id}, {span}: {status}", shade))
        lines.append(GridLine(prompt.pair.prompt.id, tuple(fields)))
    columns = tuple(str(at) if n % 5 == 0 else "" for n, at in enumerate(starts))
    counts = ", ".join(f"{count} {status}" for status, count in verdict.counts.items())
    square = "a position" if size == 1 else f"the worst of {size} positions"
    signs = "✘ WRONG, ≈ tie, ~ drift, ? not measured"
    alt = f"{verdict.cell.id}: {counts}. A line is a prompt, worst first, a square {square}: {signs}."
    legend: tuple[tuple[Shade, str], ...] = (("right", "match"), ("tie", "tie"), ("wrong", "WRONG"))
    return Grid(columns, tuple(lines), legend, alt, "Where it differs", detail=True)


def _along(verdict: CellVerdict, rows: Sequence[Compared]) -> Chart | None:
    """KL at each position, over prompts; nothing where none was measured."""
    values = [np.asarray(row.comparison.metrics["kl_divergence"], np.float64) for row in rows if row.comparison is not None]
    most, middle = [], []
    for at in range(max(map(len, values), default=0)):
        here = np.array([kl[at] for kl in values if len(kl) > at and kl[at] == kl[at]])
        if here.size:
            most.append((float(at), float(here.max())))
            middle.append((float(at), float(np.median(here))))
    if not most:
        return None
    peak = max(most, key=lambda point: point[1])
    alt = f"{verdict.cell.id}: KL is largest at position {peak[0]:g}, {peak[1]:.3g} nats, over {len(values)} prompts."
    series = (Series("largest of the prompts", tuple(most)), Series("median of the prompts", tuple(middle)))
    return Chart("lines", series, "position", "KL (nats)", alt, "KL by position", logarithmic=True)


def _band(verdict: CellVerdict, rows: Sequence[Compared]) -> Chart | None:
    """The worst prompt's RMS logit difference under its band; nothing where none was measured."""
    if verdict.band is None or not rows:
        return None
    row = rows[worst_prompt(rows)]
    if row.comparison is None or "rms_delta_logit" not in row.comparison.names:
        return None
    values = row.comparison.metrics["rms_delta_logit"].tolist()
    if not (measured := sum(value == value for value in values)):
        return None
    try:
        bands = verdict.band.along(row.token_ids, row.start, len(values))
    except (KeyError, LookupError, ValueError):
        bands = [verdict.band.summary] * len(values)
    lines = (
        ("observed", values),
        ("band: noise up to", [band.match for band in bands]),
        ("band: WRONG above", [band.wrong for band in bands]),
    )
    series = tuple(Series(name, tuple((float(at), float(value)) for at, value in enumerate(line))) for name, line in lines)
    beyond = sum(value > band.match for value, band in zip(values, bands, strict=True))
    # a number right behind a name that is written from right to left would move to its other side
    alt = f"{beyond} of {measured} positions of prompt {row.pair.prompt.id} lie above the band's noise ({verdict.band.basis})."
    return Chart("lines", series, "position", "RMS Δlogit", alt, "Observed against the band", logarithmic=True)


def _firsts(report: Report, verdict: CellVerdict) -> Chart:
    """At which position the best tokens are first not the same, over all prompts of the worst cell."""
    rows = [row for row in report.compared[verdict.cell] if row.comparison is not None]
    firsts = [differs_first(row.comparison) for row in rows if row.comparison is not None]
    apart = [first for first in firsts if first is not None]
    size = max(1, -(-(max(apart, default=0) + 1) // BARS))
    counts = {bar * size: 0 for bar in range(max(apart, default=0) // size + 1)}
    for first in apart:
        counts[first // size * size] += 1
    nowhere = len(firsts) - len(apart)
    alt = f"{verdict.cell.id}: {len(apart)} of {len(firsts)} prompts differ in their best token somewhere, {nowhere} nowhere."
    points = tuple((float(at), float(count)) for at, count in counts.items())
    across = (
        "first position with another best token" if size == 1 else f"first position with another best token, in steps of {size}"
    )
    return Chart("bars", (Series("prompts", points),), across, "prompts", alt, "Where prompts first diverge")
