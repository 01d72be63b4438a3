"""Rows of other prompts are looked for near a prompt, and opened when they are asked for: not all of them for each."""

from __future__ import annotations

from typing import Any

import numpy as np

from logitproof.contract.suite import Prompt
from logitproof.jobs.cell import Cell, Pair
from logitproof.runs.set_up import NEAR, _OtherRows
from logitproof.traces.trace import Failure, Trace


class Counted(dict[str, Any]):
    """Results that count how often one is asked for."""

    asked = 0

    def get(self, key: str, default: Any = None) -> Any:
        self.asked += 1
        return super().get(key, default)


def cell(count: int) -> Cell:
    pairs = [Pair("s", n, Prompt(id=f"p{n}", text=f"text {n}"), "s", f"r{n}", f"c{n}", None) for n in range(count)]
    return Cell("mine", "m", "original", "prefill", "native", "r", "c", tuple(pairs))


def trace(number: int) -> Trace:
    return Trace(f"r{number}", "score", "reference", "prefill", [1], 1, np.full((1, 3), number, np.float32))


def test_nothing_is_opened_before_it_is_asked_for_and_the_next_come_first() -> None:
    results = Counted({f"r{number}": trace(number) for number in range(5)})
    others = _OtherRows(cell(5), 2, results)
    assert list(others) == ["prompt p1", "prompt p3", "prompt p0", "prompt p4"] and len(others) == 4
    openers = dict(others.items())
    assert results.asked == 0
    assert openers["prompt p3"]().tolist() == [[3.0] * 3] and results.asked == 1


def test_as_many_are_looked_at_as_are_near_however_long_the_suite_is() -> None:
    assert len(_OtherRows(cell(1000), 500, {})) == 2 * NEAR and len(_OtherRows(cell(1000), 0, {})) == NEAR
    assert len(_OtherRows(cell(1), 0, {})) == 0


def test_a_prompt_that_failed_has_no_rows() -> None:
    results = {"r0": trace(0), "r1": Failure("r1", "reference", "engine", "it died")}
    assert _OtherRows(cell(2), 0, results)["prompt p1"]().size == 0
