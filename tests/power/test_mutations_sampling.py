"""Every wrong sampler draws from another distribution than the right one, and only the settings that it is about show it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from logitproof import catalog
from logitproof.protocol.sampler import NEUTRAL, Sampling, probabilities

ROWS = [np.random.default_rng(seed).normal(0, 2.5, 60) for seed in range(20)]
SEEN = [3, 9, 9, 41, 5]
SETTINGS = {
    "hidden_repetition_penalty": (Sampling(0.7), None),
    "temperature_after_truncation": (Sampling(1.6, top_p=0.8), NEUTRAL),
    "temperature_ignored": (Sampling(0.7), NEUTRAL),
    "temperature_twice": (Sampling(0.7), NEUTRAL),
    "top_p_boundary_left_out": (Sampling(1.0, top_p=0.8), NEUTRAL),
    "top_k_one_less": (Sampling(1.0, top_k=5), NEUTRAL),
    "min_p_absolute": (Sampling(1.0, min_p=0.1), NEUTRAL),
}
"""The settings that show each bug, and settings under which it is right (None: it never is)."""


def names() -> list[str]:
    return [name for name in catalog.entries("mutations") if name.startswith("sampling.")]


def far(bug: Any, sampling: Sampling) -> float:
    """The largest total variation over the rows."""
    pairs = [(bug.drawn_from(row, SEEN, sampling), probabilities(row, SEEN, sampling)) for row in ROWS]
    assert all(p.sum() == pytest.approx(1) and (p >= 0).all() for p, _ in pairs)
    return max(float(0.5 * np.abs(p - q).sum()) for p, q in pairs)


def test_every_entry_is_tried() -> None:
    assert {name.partition(".")[2] for name in names()} == set(SETTINGS)


@pytest.mark.parametrize("name", names())
def test_it_is_seen_with_its_setting_and_right_without(name: str) -> None:
    bug = catalog.load("mutations", name)()
    shown, right = SETTINGS[name.partition(".")[2]]
    assert far(bug, shown) > 0.01
    if right is not None:
        assert far(bug, right) < 1e-12


def test_a_hidden_penalty_changes_greedy_text() -> None:
    bug = catalog.load("mutations", "sampling.hidden_repetition_penalty")()
    row = np.zeros(60)
    row[[9, 20]] = (3.0, 2.9)
    assert bug.drawn_from(row, SEEN, Sampling(0.0)).argmax() == 20
