"""Draws with the same noise: equal for equals, ties only inside the band, and every bug of samplers is a fault."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from logitproof import catalog
from logitproof.protocol.sampler import NEUTRAL, Sampling, draw, probabilities, scaled_last
from logitproof.quality.replay import KNOWN, MOST_TIE, SETTINGS
from logitproof.quality.synchronized import (
    NOTHING,
    Fault,
    Synchronized,
    expected_by_uniform,
    gumbel,
    judged,
    reach,
    synchronized,
)

ROWS = np.random.default_rng(5).normal(0, 2.5, (40, 60))
IDS = np.random.default_rng(6).integers(0, 60, 40).tolist()
SEEDS = st.integers(0, 10_000)
SAMPLINGS = st.builds(
    Sampling,
    temperature=st.floats(0.2, 4),
    top_k=st.integers(0, 12),
    top_p=st.floats(0.2, 1),
    min_p=st.floats(0, 0.4),
    repetition_penalty=st.floats(1, 1.4),
)
BUGS = sorted(name for name in catalog.entries("mutations") if name.startswith("sampling."))


@settings(max_examples=40, deadline=None)
@given(SEEDS, SAMPLINGS)
def test_equal_logits_draw_equal_tokens(seed: int, sampling: Sampling) -> None:
    rows = np.random.default_rng(seed).normal(0, 3, (6, 40))
    found = synchronized(rows, rows, [1, 2, 3, 4, 5, 6], sampling, 1e-6)
    assert (found.draws, found.equal, found.ties, found.faults) == (6, 6, 0, ())


@settings(max_examples=60, deadline=None)
@given(SEEDS, SAMPLINGS, st.floats(0.001, 0.5), st.booleans())
@example(0, Sampling(1.0, top_k=1, top_p=0.5), 0.5, False)  # of one token it is not sure that it stays
def test_what_logits_inside_the_band_draw_is_never_a_fault(seed: int, sampling: Sampling, tie: float, last: bool) -> None:
    rng = np.random.default_rng(seed)
    row, seen = rng.normal(0, 2, 30), [3, 7, 7]
    # a penalty stretches the band as it stretches the logits
    near = row + rng.uniform(-tie / 2, tie / 2, 30) / sampling.repetition_penalty
    near = np.where(np.sign(near) == np.sign(row), near, row)
    may, noise, number = reach(row, seen, sampling, tie, last=last), gumbel(seed, 0, 30), float(rng.random())
    p = (scaled_last if last else probabilities)(near, seen, sampling)
    with np.errstate(divide="ignore"):
        assert may.by_gumbel(noise, int(np.argmax(np.log(p) + noise)))
    for by_rank in (False, True):
        token = expected_by_uniform(near, seen, sampling, number, by_rank=by_rank, last=last)
        assert may.by_uniform(number, token, by_rank=by_rank)


def test_logits_that_differ_by_more_than_the_band_are_faults() -> None:
    found = synchronized(ROWS, ROWS * 1.5, IDS, Sampling(0.7), 0.01, prompt="p")
    assert len(found.faults) >= 3 and found.match < 0.95 and found.faults[0].prompt == "p"
    assert synchronized(ROWS, ROWS * 1.5, IDS, Sampling(0.7), 50.0).faults == ()


@pytest.mark.parametrize("name", BUGS)
def test_every_wrong_sampler_is_caught_with_logits_that_are_right(name: str) -> None:
    bug = catalog.load("mutations", name)()
    found, right = NOTHING, NOTHING
    for setting in SETTINGS:
        found += synchronized(ROWS, ROWS, IDS, setting, 1e-3, drawn_from=bug.drawn_from)
        right += synchronized(ROWS, ROWS, IDS, setting, 1e-3)
    assert len(found.faults) >= 3 and not right.faults


@pytest.mark.parametrize("name", BUGS)
def test_every_wrong_sampler_is_caught_by_its_uniform_numbers(name: str) -> None:
    bug = catalog.load("mutations", name)()
    assert _foretold(bug.drawn_from, 1e-3) >= 10
    assert _foretold(bug.drawn_from, 0.8 * MOST_TIE) >= 2, "no more rounding may be granted than bugs can hide in"


def test_the_right_sampler_is_foretold_token_by_token() -> None:
    assert _foretold(probabilities, 1e-3) == 0


def _foretold(drawn_from: Any, tie: float) -> int:
    """Faults of the sampler under every setting, replayed from numpy's generator."""
    found = NOTHING
    for setting in SETTINGS:
        rng, numbers = np.random.default_rng(setting.seed), KNOWN["pcg64"].numbers(setting.seed, 1, len(ROWS))[0]
        for position, row in enumerate(ROWS):
            seen = IDS[: position + 1]
            token, number = draw(drawn_from(row, seen, setting), rng), float(numbers[position])
            expected = expected_by_uniform(row, seen, setting, number, by_rank=False, last=False)
            may = reach(row, seen, setting, tie).by_uniform(number, token, by_rank=False)
            found += judged(Fault("", position, expected, token), may)
    assert found.draws == len(ROWS) * len(SETTINGS)
    return len(found.faults)


def test_a_draw_uses_one_number_whatever_the_probabilities_are() -> None:
    one, other = np.random.default_rng(1), np.random.default_rng(1)
    draw(np.array([0.0, 1.0, 0.0]), one)
    draw(np.array([0.2, 0.3, 0.5]), other)
    assert one.random() == other.random()


def test_nothing_drawn_is_no_match() -> None:
    assert np.isnan(NOTHING.match)
    assert Synchronized(4, 2, 1, (Fault("p", 0, 1, 2),)).match == 0.75


def test_the_noise_of_llama_cpp_is_that_of_the_standard_generator() -> None:
    # ISO C++ [rand.predef]: the 10000th output of a default-seeded mt19937 is 4123659995
    random = np.random.RandomState(5489)
    assert int(random.randint(0, 2**32, 10_000, np.uint32)[-1]) == 4123659995
    numbers = KNOWN["mt19937"].numbers(0, 2, 5)
    assert numbers.shape == (2, 5) and (numbers >= 0).all() and (numbers < 1).all() and not np.allclose(*numbers)


def test_neutral_settings_leave_every_token() -> None:
    may = reach(ROWS[0], [], NEUTRAL, 0.1)
    assert may.loose.all() and may.tight.all()
