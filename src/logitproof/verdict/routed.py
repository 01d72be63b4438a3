"""What the routers of both sides chose, as columns of a comparison, where a gate asks for that."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from logitproof import catalog
from logitproof.comparison.compare import Comparison
from logitproof.documents.columns import column
from logitproof.metrics import RoutingMetric
from logitproof.traces.trace import Trace


@functools.cache
def routing_metrics() -> Mapping[str, RoutingMetric]:
    """The metrics of the catalogue that are measured of what routers choose, by name."""
    kinds = {name: catalog.load("metrics", name) for name in catalog.entries("metrics")}
    return {name: kind() for name, kind in kinds.items() if issubclass(kind, RoutingMetric)}


def with_routing(comparison: Comparison, reference: Trace, candidate: Trace) -> tuple[Comparison, str]:
    """The comparison with these metrics, and why they are not measured, or nothing; as it is where nobody asked for them."""
    sides = {"reference": reference, "candidate": candidate}
    if not any(trace.routing or trace.unrouted for trace in sides.values()):
        return comparison, ""
    reason = next((f"the {side} ({trace.engine}) {trace.unrouted}" for side, trace in sides.items() if trace.unrouted), "")
    if not reason:
        reason = _apart(reference, candidate)
    left, right = reference.routing, candidate.routing
    if reason or left is None or right is None:
        values = {name: np.full(comparison.positions, np.nan) for name in routing_metrics()}
    else:
        values = {name: np.asarray(metric.compute(left, right), np.float64) for name, metric in routing_metrics().items()}
    table = comparison.table
    for name, numbers in values.items():
        table = table.append_column(name, column(numbers))
    return replace(comparison, table=table, names=(*comparison.names, *values)), reason


def _apart(reference: Trace, candidate: Trace) -> str:
    """Why the routing of two sides cannot be laid beside each other, or nothing."""
    for side, trace in (("reference", reference), ("candidate", candidate)):
        if trace.routing is None:
            return f"the {side} ({trace.engine}) was not asked which experts it chose"
    assert reference.routing is not None and candidate.routing is not None
    return _other_layers(reference.routing.layers, candidate.routing.layers)


def _other_layers(reference: Sequence[int], candidate: Sequence[int]) -> str:
    if reference == candidate:
        return ""
    if missing := sorted(set(reference) - set(candidate)):
        return f"the candidate has no taps of the routers of layers {', '.join(map(str, missing))}"
    more = sorted(set(candidate) - set(reference))
    return f"the candidate has routers in layers {', '.join(map(str, more))}, where the reference has none"
