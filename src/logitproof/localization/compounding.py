"""How an error compounds from token to token: the residual stream's and the logits' error at every position."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from logitproof.localization.axes import by_position
from logitproof.protocol import taps

Arrays = Mapping[str, np.ndarray]
FEWEST = 4
"""Positions from which on a growth is stated."""


@dataclass(frozen=True)
class Compounding:
    """The accumulated error of one boundary, relative, at every position."""

    tap: str
    errors: tuple[float, ...]

    def growth(self, start: int = 0) -> float | None:
        """The factor by which the error grows from one token to the next, from `start` on; None where too few have one.

        The slope of a line through the logarithms by least squares.
        """
        points = [(number, math.log(error)) for number, error in enumerate(self.errors) if number >= start and _counts(error)]
        if len(points) < FEWEST:
            return None
        places, heights = (np.array(values) for values in zip(*points, strict=True))
        return float(np.exp(np.polyfit(places - places.mean(), heights, 1)[0]))


def compounding(names: Sequence[str], reference: Arrays, candidate: Arrays) -> tuple[Compounding, ...]:
    """Every boundary of `names` that both sides have in one shape, in the order of computation."""
    return tuple(
        Compounding(name, by_position(name, candidate[name], reference[name]))
        for name in _boundaries(names)
        if candidate[name].size == reference[name].size
    )


def _boundaries(names: Sequence[str]) -> Iterable[str]:
    return (name for name in names if taps.wanted(name, taps.BOUNDARIES) and taps.split(name)[1] in ("out", *taps.END))


def _counts(error: float) -> bool:
    return 0 < error < math.inf
