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
# What is summed is summed in the order of its size: the order of prompts in a file is none of an engine, and a bound may be
# as near as the last digit.
STATISTICS: Mapping[str, Callable[[np.ndarray], float]] = {
    "mean": lambda values: float(np.sort(values).mean()),
    "median": lambda values: float(np.median(values)),
    "p95": lambda values: float(np.percentile(values, 95)),
    "p99": lambda values: float(np.percentile(values, 99)),
    "max": lambda values: float(values.max()),
    "min": lambda values: float(values.min()),
    "rms": lambda values: rms(np.sort(values)),
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
    pairs = sorted((float(values.sum()), len(values)) for values in kept if len(values))
    sums, counts = (np.array(column) for column in zip(*pairs, strict=True)) if pairs else (np.empty(0), np.empty(0))
    if len(sums) < 2:
        return None
    return bootstrap_ratio(sums, counts, seed=seed)
