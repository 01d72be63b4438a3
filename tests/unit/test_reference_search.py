"""The value of least distance: of numbers, and of whole numbers, whose distances are steps and plateaus."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from logitproof import catalog
from logitproof.diagnosis.found import Mutant
from logitproof.reference.search import refine, scan

SEQUENCE = 64
"""Positions: a window that is longer hides nothing, so that all longer ones are alike."""


def apart(right: int) -> Callable[[float], float]:
    """How far a window is from the right one in a sequence: keys that one sees and the other does not."""

    def far(window: float) -> float:
        assert isinstance(window, int)
        keys = [abs(min(position, window) - min(position, right)) for position in range(1, SEQUENCE + 1)]
        return float(sum(keys)) ** 0.5

    return far


@pytest.mark.parametrize("right", [1, 2, 3, 7, 8, 11, 13, 31, 48, 62, 63])
def test_a_whole_number_is_found_exactly(right: int) -> None:
    far = apart(right)
    value = refine(far, scan(far, 1, 4096, (8, 16, 32), whole=True), whole=True)
    assert value == right and isinstance(value, int)


def test_of_sizes_that_are_all_alike_the_smallest_is_told() -> None:
    far = apart(4096)
    scanned = scan(far, 1, 4096, whole=True)
    assert refine(far, scanned, whole=True) == SEQUENCE


def test_a_number_is_found_as_before() -> None:
    scanned = scan(lambda value: abs(value - 10060.0), 1e3, 1e8)
    assert refine(lambda value: abs(value - 10060.0), scanned, 34) == pytest.approx(10060.0, rel=1e-4)


def test_a_value_that_is_searched_begins_inside_its_range() -> None:
    kinds = [catalog.load("mutations", name) for name in catalog.entries("mutations")]
    searched = [(kind, key, ends) for kind in kinds for key, ends in kind.ranges.items()]
    assert searched and all(0 < low <= getattr(kind, key) <= high for kind, key, (low, high) in searched)
    whole = [kind.grid.get(key, ()) for kind, key, _ in searched if kind.is_whole(key)]
    assert whole and all(isinstance(value, int) for grid in whole for value in grid)


def test_a_whole_number_that_is_known_has_no_give() -> None:
    assert str(Mutant("attention.window_size", {"window": 8}, 0.1, {"window": 0.0})) == "attention.window_size (window = 8)"
    assert str(Mutant("attention.window_size", {"window": 8}, 0.1, {"window": 3.0})).endswith("(window = 8 ± 3)")
