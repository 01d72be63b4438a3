"""What a mixture of experts chose at every position: the experts by number, and their weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

SUMS_TO_ONE = 1e-6
"""How far a sum of weights may be from 1 in a healthy float32 router: 16 weights, each half a step of 2**-24 off."""


@dataclass(frozen=True)
class Routing:
    """The choice of every layer that has a router, in the order of `layers`.

    `chosen` int64 [T, L, k] are numbers of experts, `weights` float64 [T, L, k] what their outputs are multiplied by.
    """

    layers: tuple[int, ...]
    chosen: np.ndarray
    weights: np.ndarray

    @property
    def sets(self) -> np.ndarray:
        """int64 [T, L, k]: the numbers in rising order, so that two that are equal are the same set."""
        return np.sort(self.chosen, axis=-1)

    @property
    def sums(self) -> np.ndarray:
        """float64 [T, L]: the sum of the weights."""
        return np.asarray(self.weights.sum(-1), np.float64)


def same_sets(reference: Routing, candidate: Routing) -> np.ndarray:
    """bool [T, L]: whether both chose the same experts; never where they choose more or fewer of them."""
    if reference.chosen.shape != candidate.chosen.shape:
        return np.zeros(reference.chosen.shape[:2], bool)
    return np.asarray((reference.sets == candidate.sets).all(-1))


def routing_record(reference: Routing, candidate: Routing, position: int) -> list[dict[str, Any]]:
    """The layers of a position at which the sets differ or the candidate's weights do not sum to 1, as plain data."""
    wrong = ~same_sets(reference, candidate)[position] | ~(np.abs(candidate.sums[position] - 1) <= SUMS_TO_ONE)
    return [_of_layer(reference, candidate, position, int(at)) for at in np.flatnonzero(wrong)]


def _of_layer(reference: Routing, candidate: Routing, position: int, at: int) -> dict[str, Any]:
    sides = {"reference": reference, "candidate": candidate}
    experts = {f"experts_{side}": routing.sets[position, at].tolist() for side, routing in sides.items()}
    sums = {f"weight_sum_{side}": float(routing.sums[position, at]) for side, routing in sides.items()}
    return {"layer": reference.layers[at], **experts, **sums}
