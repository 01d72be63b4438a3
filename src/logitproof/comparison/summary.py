"""What many values come to: statistics by name, and the interval of a mean over prompts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated

import numpy as np
from pydantic import WithJsonSchema
from typing_extensions import TypedDict

from logitproof.comparison.chance import bootstrap_ratio
from logitproof.errors import EngineError
from logitproof.rows.distance import rms

Number = Annotated[float, WithJsonSchema({"anyOf": [{"type": "number"}, {"type": "null"}]})]
"""A number that JSON has as null where it is not finite."""
STATISTICS: Mapping[str, Callable[[np.ndarray], float]] = {
    "mean": lambda values: float(values.mean()),
    "median": lambda values: float(np.median(values)),
    "p95": lambda values: float(np.percentile(values, 95)),
    "p99": lambda values: float(np.percentile(values, 99)),
    "max": lambda values: float(values.max()),
    "min": lambda values: float(values.min()),
    "rms": rms,
}


class Summary(TypedDict):
    """One metric over all positions of a cell; null is a number that is not finite."""

    mean: Number
    median: Number
    p95: Number
    p99: Number
    max: Number
    min: Number
    rms: Number
    count: int
    """values that were measured"""
    not_measured: int
    prompts: int
    interval: tuple[Number, Number] | None
    """95 % interval of the mean, from a bootstrap over prompts; null for a single prompt"""
    seed: int


def summarize(values_by_prompt: Sequence[np.ndarray], seed: int) -> Summary:
    """Statistics of one metric over all positions of several prompts, one array [T] each.

    `interval` is the 95 % interval of the mean from a bootstrap over prompts (positions of a prompt are
    not independent), null for a single one. NaN is not measured: counted in `not_measured`, in nothing
    else. Where nothing was measured there is no summary: EngineError.
    """
    kept = [np.asarray(values, np.float64)[~np.isnan(values)] for values in values_by_prompt]
    flat = np.concatenate(kept) if kept else np.empty(0)
    total = sum(len(values) for values in values_by_prompt)
    if flat.size == 0:
        raise EngineError(
            f"nothing was measured: {total} positions of {len(kept)} prompts, none with a value",
            remedy="look at the failures of the run: a summary of nothing would prove nothing",
        )
    with np.errstate(invalid="ignore", over="ignore"):  # between two infinite values there is no percentile
        statistics = {name: statistic(flat) for name, statistic in STATISTICS.items()}
        interval = _interval(kept, seed)
    return {
        "mean": statistics["mean"],
        "median": statistics["median"],
        "p95": statistics["p95"],
        "p99": statistics["p99"],
        "max": statistics["max"],
        "min": statistics["min"],
        "rms": statistics["rms"],
        "count": int(flat.size),
        "not_measured": int(total - flat.size),
        "prompts": sum(len(values) > 0 for values in kept),
        "interval": interval,
        "seed": seed,
    }


def _interval(kept: Sequence[np.ndarray], seed: int) -> tuple[float, float] | None:
    sums = np.array([values.sum() for values in kept if len(values)])
    counts = np.array([len(values) for values in kept if len(values)])
    if len(sums) < 2:
        return None
    return bootstrap_ratio(sums, counts, seed=seed)
