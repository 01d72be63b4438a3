"""Metrics that let ties pass, by the tie margin of a cell's band, and how often a tie alone parts them from strict ones."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from logitproof import catalog
from logitproof.bands.band import Band
from logitproof.bands.calculated import CalculatedBand
from logitproof.documents.columns import column
from logitproof.metrics import TiedMetric
from logitproof.verdict.compared import Compared


@functools.cache
def tied_metrics() -> Mapping[str, TiedMetric]:
    """The metrics of the catalogue that let ties pass, by name."""
    kinds = {name: catalog.load("metrics", name) for name in catalog.entries("metrics")}
    return {name: kind() for name, kind in kinds.items() if issubclass(kind, TiedMetric)}


def outside_ties(row: Compared, band: Band | CalculatedBand | None) -> Compared:
    """The row with every such metric judged by the tie margin of its band at each position."""
    if row.comparison is None or band is None:
        return row
    margins = [entry.tie_margin for entry in band.along(row.token_ids, row.start, row.comparison.positions)]
    if len(margins) != row.comparison.positions:
        return row
    table, columns = row.comparison.table, row.comparison.metrics
    for name, metric in tied_metrics().items():
        if name in columns and metric.shortfall in columns:
            values = metric.judged(columns[metric.shortfall], np.array(margins))
            table = table.set_column(table.schema.get_field_index(name), name, column(values))
    return replace(row, comparison=replace(row.comparison, table=table))


def by_ties_alone(metric: str, values: Sequence[np.ndarray], strict: Sequence[np.ndarray]) -> int | None:
    """At how many positions the strict metric fails and this one holds; None of a metric that knows no ties."""
    if metric not in tied_metrics():
        return None
    return sum(int(((lenient == 1.0) & (exact == 0.0)).sum()) for lenient, exact in zip(values, strict, strict=True))
