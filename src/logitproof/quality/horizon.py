"""Drift with the position: whether an error grows along a context, and whether it jumps at a cache boundary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from logitproof.comparison.chance import bootstrap_mean

FLOOR = 1e-16
"""KL below this, in nats, is rounding of float64 and has no logarithm worth looking at."""


@dataclass(frozen=True)
class Horizon:
    """`bins`: (first position, last, mean KL in nats, values). `growth` is the slope of log KL over log position with its
    95 % bootstrap interval over prompts; `grows` says that the interval lies above `TREND`. `steps` are the boundaries that
    a prompt reaches with the KL right after over that right before, `jumps` those of more than `JUMP`."""

    bins: tuple[tuple[int, int, float, int], ...]
    growth: float
    interval: tuple[float, float]
    grows: bool
    steps: tuple[tuple[int, float], ...]
    jumps: tuple[tuple[int, float], ...]


TREND = 0.75
"""Slope from which on drift is called growth: rounding noise that accumulates over a context stays below √position."""
JUMP = 8.0
AROUND = 8


def horizon(kl: Sequence[np.ndarray], boundaries: Sequence[int] = (), *, resamples: int = 400, seed: int = 0) -> Horizon:
    """KL in nats by position of every prompt, [T] each. Raises ValueError where no prompt has 16 positions."""
    rows = [np.maximum(np.asarray(column, np.float64), FLOOR) for column in kl if len(column) >= 16]
    if not rows:
        raise ValueError("no prompt has 16 positions, so no drift could be seen")
    slopes = np.array([_slope(row) for row in rows])
    interval = bootstrap_mean(slopes, resamples=resamples, seed=seed)
    longest = max(len(row) for row in rows)
    bins, start = [], 0
    while start < longest:
        end = max(2 * start, 16)
        values = np.concatenate([row[start:end] for row in rows])
        if len(values):
            bins.append((start, min(end, longest) - 1, float(values.mean()), len(values)))
        start = end
    steps = tuple((at, ratio) for at in boundaries if (ratio := _step(rows, at)))
    jumps = tuple((at, ratio) for at, ratio in steps if ratio > JUMP)
    return Horizon(tuple(bins), float(slopes.mean()), interval, interval[0] > TREND, steps, jumps)


def _slope(row: np.ndarray) -> float:
    """Least squares of log KL over log (position + 1), each doubling of the position with the same weight."""
    x = np.log(np.arange(1, len(row) + 1))
    weights = 1.0 / np.arange(1, len(row) + 1)
    y = np.log(row)
    mx, my = np.average(x, weights=weights), np.average(y, weights=weights)
    return float((weights * (x - mx) * (y - my)).sum() / (weights * (x - mx) ** 2).sum())


def _step(rows: Sequence[np.ndarray], at: int) -> float:
    """Median over prompts of the geometric mean of KL after `at` over that before it; 0 where no prompt reaches it."""
    ratios = [
        float(np.exp(np.log(row[at : at + AROUND]).mean() - np.log(row[at - AROUND : at]).mean()))
        for row in rows
        if at >= AROUND and len(row) >= at + AROUND
    ]
    return float(np.median(ratios)) if ratios else 0.0
