"""A comparison as a page: what its metrics come to, where KL divergence is largest, and the best tokens there."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from logitproof.comparison.compare import SHOWN, Comparison
from logitproof.comparison.summary import STATISTICS
from logitproof.documents.columns import array
from logitproof.documents.document import Document
from logitproof.documents.section import Chart, Column, Line, Row, Section, Series, Table, Text, Verdict
from logitproof.documents.wording import number

COLUMNS = ("mean", "median", "p95", "p99", "max")
WORST = 5
"""Positions that are shown one by one."""
STRETCHES = 200
"""Points of the chart: of more positions than that, each point is the largest of a stretch."""
KL = "kl_divergence"
NO_VERDICT = "a verdict needs a contract"


def page(comparison: Comparison) -> Document:
    """Statistics of every metric, KL divergence along the positions, and the positions where it is largest."""
    metrics = {name: values[~np.isnan(values)] for name, values in comparison.metrics.items()}
    measured = {name: values for name, values in metrics.items() if values.size}
    sections: list[Section] = []
    if measured:
        with np.errstate(invalid="ignore"):  # between two infinite values there is no percentile
            sections.append(metrics_table({name: _statistics(values) for name, values in measured.items()}))
    left = [name for name in metrics if name not in measured]
    if left:
        sections.append(Text((Line(f"not measured at any position: {', '.join(left)}", "unsure"),)))
    if KL in measured:
        sections += [_along(comparison), _worst(comparison)]
    title = f"{comparison.positions} positions of a candidate against its reference"
    return Document(title, _verdict(comparison, measured), tuple(sections))


def metrics_table(metrics: Mapping[str, Mapping[str, Any]]) -> Table:
    """A row a metric: its statistics by name, as `comparison.summary` has them."""
    columns = (Column("metric"), *(Column(key, "number") for key in COLUMNS))
    return Table(
        columns, tuple(Row((name, *(number(statistics[key]) for key in COLUMNS))) for name, statistics in metrics.items())
    )


def far(kl: Mapping[str, Any] | None) -> str:
    """How far the candidate is, by the statistics of its KL divergence."""
    return f"mean KL {_amount(kl['mean'])} nats, largest {_amount(kl['max'])}" if kl else "KL is not measured"


def _statistics(values: np.ndarray) -> dict[str, float]:
    return {name: STATISTICS[name](values) for name in COLUMNS}


def _verdict(comparison: Comparison, measured: Mapping[str, np.ndarray]) -> Verdict:
    bad = comparison.nonfinite
    if bad.size:
        text = f"{bad.size} of {comparison.positions} positions hold logits that are not finite, the first is {bad[0]}"
        return Verdict("NOT FINITE", f"{text}: an engine failed", "bad")
    if not measured:
        return Verdict("NOT-MEASURED", "no metric has a value at any position", "unsure")
    with np.errstate(invalid="ignore"):
        reason = far(_statistics(measured[KL]) if KL in measured else None)
    return Verdict("MEASURED", f"{reason}; {NO_VERDICT}")


def _along(comparison: Comparison) -> Chart:
    """KL divergence by position [T] in nats; of many positions the largest of each stretch."""
    values, positions = comparison.metrics[KL], array(comparison.table["position"])
    size = max(1, -(-len(values) // STRETCHES))
    points = []
    for begin in range(0, len(values), size):
        stretch = values[begin : begin + size]
        if not np.isnan(stretch).all():
            points.append((float(positions[begin]), float(np.nanmax(stretch))))
    at = int(np.nanargmax(values))
    alt = f"KL is largest at position {positions[at]}, {_amount(float(values[at]))} nats."
    title = "KL by position" if size == 1 else f"KL by position, the largest of every {size}"
    return Chart("lines", (Series("KL", tuple(points)),), "position", "KL (nats)", alt, title, logarithmic=True)


def _worst(comparison: Comparison) -> Table:
    """The positions with the largest KL divergence, with the ids of the best tokens of both sides."""
    values = comparison.metrics[KL]
    order = [int(at) for at in np.argsort(-np.nan_to_num(values, nan=-np.inf), kind="stable") if not np.isnan(values[at])]
    columns = (
        Column("position", "number"),
        Column("next token", "number"),
        Column("KL (nats)", "number"),
        Column("reference's best", "code"),
        Column("candidate's best", "code"),
    )
    rows = tuple(_position(comparison, at, float(values[at])) for at in order[:WORST])
    return Table(columns, rows, "Where KL is largest")


def _position(comparison: Comparison, at: int, kl: float) -> Row:
    table = comparison.table
    label = int(table["label"][at].as_py())
    best = [_ids(table[f"top{SHOWN}_ids_{side}"][at].as_py()) for side in ("reference", "candidate")]
    return Row((str(table["position"][at].as_py()), "–" if label < 0 else str(label), _amount(kl), *best))


def _amount(value: float | None) -> str:
    """Infinity is a measurement: a token of the reference that the candidate holds impossible."""
    return "infinite" if value == math.inf else number(value)


def _ids(ids: Sequence[int]) -> str:
    return " ".join(str(token) for token in ids if token >= 0)
