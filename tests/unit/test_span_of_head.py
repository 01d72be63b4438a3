"""Whether a head could have given rows is told of a large vocabulary by a sample of it, and of all of its entries."""

from __future__ import annotations

import time

import numpy as np
import pytest

from logitproof.diagnosis.difference import Difference
from logitproof.diagnosis.shape_rows import span_of_the_head

RANDOM = np.random.default_rng(7)
HEAD = RANDOM.normal(size=(40_000, 24)).astype(np.float32)
STATES = RANDOM.normal(size=(6, 24))
RIGHT = STATES @ HEAD.T.astype(np.float64)


def told(candidate: np.ndarray, limit: float = 0.01, head: np.ndarray = HEAD) -> tuple[str, float]:
    finding = span_of_the_head(Difference(((1,) * len(candidate),), (RIGHT,), (candidate,), "prefill", limit, (), head))
    assert finding is not None
    return finding.kind, finding.evidence["left"]


def test_another_hidden_state_and_a_constant_lie_in_the_span() -> None:
    kind, left = told((STATES + 1.0) @ HEAD.T.astype(np.float64) + np.arange(6)[:, None])
    assert kind == "before the head" and left < 1e-4


def test_noise_is_what_is_left() -> None:
    kind, left = told(RIGHT + RANDOM.normal(size=RIGHT.shape), limit=2.0)
    assert kind == "before the head" and left == pytest.approx(1.0, rel=0.12)


@pytest.mark.parametrize("share", [0.01, 0.3, 1.0])
def test_a_head_whose_entries_differ_gives_what_the_right_one_cannot(share: float) -> None:
    wrong = HEAD.copy()
    count = int(share * len(wrong))
    chosen = RANDOM.permutation(len(wrong))[:count]
    wrong[chosen] = wrong[np.roll(chosen, 1)]
    kind, left = told(STATES @ wrong.T.astype(np.float64))
    assert kind == "outside the head's span" and left > 0.1


def test_a_vocabulary_of_today_is_told_in_seconds() -> None:
    head = RANDOM.normal(size=(130_000, 256)).astype(np.float32)
    rows = RANDOM.normal(size=(4, 256)) @ head.T.astype(np.float64)
    before = time.process_time()
    finding = span_of_the_head(Difference(((1,) * 4,), (rows,), (rows + 1.0,), "prefill", 0.01, (), head))
    assert finding is not None and finding.kind == "before the head"
    assert time.process_time() - before < 10
