"""How far a bug is by the value of one of its parameters, and how well that value is known."""

from __future__ import annotations

import math
from dataclasses import dataclass

from logitproof import catalog
from logitproof.diagnosis.trial import Trial
from logitproof.reference.planted import Bugs

DIGITS = (2, 3, 4, 6)
"""A fitted value is told in as few digits as come about as near as the best."""


@dataclass(frozen=True)
class Far:
    """How far bugs are from the candidate on the screened positions, as a function of one parameter of one of them."""

    trial: Trial
    others: Bugs
    name: str
    key: str

    @property
    def whole(self) -> bool:
        """Whether the parameter is a whole number."""
        return bool(catalog.load("mutations", self.name).is_whole(self.key))

    def __call__(self, value: float) -> float:
        try:
            return self.trial.distance([*self.others, (self.name, {self.key: value})], short=True)
        except (RuntimeError, ValueError):  # a value at the end of a range may not be plantable in this model
            return math.inf


def rounded_to(far: Far, value: float, limit: float) -> float:
    """The value in as few digits as come no farther than `limit`."""
    short = (float(f"{value:.{digits}g}") for digits in DIGITS)
    return next((candidate for candidate in short if far(candidate) <= limit), float(f"{value:.6g}"))


def uncertainty(far: Far, value: float, noise: float) -> float:
    """How far the value may be off until the logits move by `noise`, by the curvature of the squared distance at it.

    Of a whole number 0 where its neighbours do: then it is known.
    """
    step: float = 1 if far.whole else 1e-3 * abs(value)
    here, above, below = far(value), far(value + step), far(value - step)
    bend = (above**2 + below**2 - 2 * here**2) / (2 * step**2)
    if far.whole and min(above, below) ** 2 - here**2 > noise**2:
        return 0.0
    return noise / math.sqrt(bend) if bend > 0 and math.isfinite(bend) else abs(value)
