"""The value of a parameter at which a distance is least: a scan between two ends, then golden-section steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

SCANNED = 15
"""Values, spaced evenly in their logarithm, at which a range is looked at."""
STEPS = 18
"""Golden-section steps after a scan: the value is known to about a ten-thousandth."""
FEW = 8
"""Whole numbers in a row of which each is tried."""
Far = Callable[[float], float]


def scan(far: Far, low: float, high: float, known: Sequence[float] = (), *, whole: bool = False) -> list[tuple[float, float]]:
    """(logarithm of a value, its distance) of values between `low` and `high`, those of `known` among them.

    With `whole` they are whole numbers.
    """
    inside = [math.log(value) for value in known if low <= value <= high]
    points = sorted({*np.linspace(math.log(low), math.log(high), SCANNED).tolist(), *inside})
    if whole:
        points = [math.log(value) for value in sorted({max(round(math.exp(point)), 1) for point in points})]
        return [(point, far(round(math.exp(point)))) for point in points]
    return [(point, far(math.exp(point))) for point in points]


def refine(far: Far, scanned: Sequence[tuple[float, float]], steps: int = STEPS, *, whole: bool = False) -> float:
    """The value of least distance around the best of a scan, by golden section in its logarithm; an int with `whole`."""
    best = int(np.argmin([distance for _, distance in scanned]))
    a, b = scanned[max(best - 1, 0)][0], scanned[min(best + 1, len(scanned) - 1)][0]
    if whole:
        return _whole(far, round(math.exp(a)), round(math.exp(b)))
    ratio = (math.sqrt(5) - 1) / 2
    c, d = b - ratio * (b - a), a + ratio * (b - a)
    fc, fd = far(math.exp(c)), far(math.exp(d))
    for _ in range(steps):
        if fc < fd:
            b, d, fd = d, c, fc
            c = b - ratio * (b - a)
            fc = far(math.exp(c))
        else:
            a, c, fc = c, d, fd
            d = a + ratio * (b - a)
            fd = far(math.exp(d))
    return math.exp((a + b) / 2)


def _whole(far: Far, low: int, high: int) -> int:
    """The whole number of least distance between two others, ends included.

    Of two numbers that are as far away, the smaller is gone on from: sizes that exceed everything there is are all alike.
    """
    while high - low > FEW:
        third = (high - low) // 3
        if far(low + third) <= far(high - third):
            high -= third
        else:
            low += third
    return min(range(low, high + 1), key=far)
