"""Every bug of the graph is found at the operation that it declares, and no other operation is blamed."""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from typing import Any

import pytest
from planted import FAMILIES, LONG, config

from logitproof import catalog
from logitproof.protocol import taps

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from localize import Bench

NEEDS = ("", "small activations", LONG)
EVERY = 3
"""Each run takes every third bug; `make bench-localize` takes all, in two precisions and in llama.cpp."""


def cases() -> list[Any]:
    found = []
    for name in catalog.entries("mutations"):
        kind = catalog.load("mutations", name)
        family = next((one for one in FAMILIES if kind().applies(config(one))), None)
        if kind.needs in NEEDS and not kind.equivalent and family is not None:
            found.append(pytest.param(name, family, id=name))
    return found[::EVERY]


@functools.cache
def bench(family: str, length: int) -> Bench:
    return Bench(family, length)


@pytest.mark.parametrize(("name", "family"), cases())
def test_the_first_wrong_operation_is_the_declared_one_and_no_other_is_blamed(name: str, family: str) -> None:
    kind = catalog.load("mutations", name)
    length = 320 if kind.needs == LONG or "growing with position" in kind.shows else 48
    found, candidate = bench(family, length).locate([kind()])
    really = bench(family, length).changed([kind()], "float32")
    declared = taps.split(kind.first_tap)[1]
    offered = any(taps.split(one)[1] == declared for one in candidate)
    assert found.first is not None
    assert taps.split(found.first)[1] == declared or (not offered and found.first in really)
    assert {row.tap for row in found.rows if row.status == "differs"} <= really
