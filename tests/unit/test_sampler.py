"""The right sampler keeps its laws; order and boundaries are those of transformers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from logitproof.errors import ContractError
from logitproof.protocol.sampler import Sampling, choose, nucleus, penalized, probabilities
from logitproof.rows.probability import softmax

ROWS = st.integers(0, 10_000).map(lambda seed: np.random.default_rng(seed).normal(0, 4, 40))


@settings(max_examples=60, deadline=None)
@given(ROWS, st.floats(0.1, 3), st.integers(0, 50), st.floats(0.05, 1), st.floats(0, 0.9))
def test_what_is_drawn_from_is_a_distribution_with_the_argmax_in_it(
    row: np.ndarray, temperature: float, top_k: int, top_p: float, min_p: float
) -> None:
    p = probabilities(row, [], Sampling(temperature, top_k, top_p, min_p))
    assert p.sum() == pytest.approx(1) and (p >= 0).all()
    assert p.argmax() == row.argmax()
    if top_k > 0:
        assert (p > 0).sum() <= top_k


@settings(max_examples=30, deadline=None)
@given(ROWS)
def test_neutral_settings_are_the_softmax(row: np.ndarray) -> None:
    assert np.allclose(probabilities(row, [1, 2], Sampling()), softmax(row))


def test_the_token_that_reaches_top_p_belongs_to_the_nucleus() -> None:
    assert nucleus(np.array([0.5, 0.3, 0.2]), 0.5).tolist() == [True, False, False]
    assert nucleus(np.array([0.5, 0.3, 0.2]), 0.51).tolist() == [True, True, False]


def test_the_penalty_pushes_both_signs_down() -> None:
    assert penalized(np.array([2.0, -2.0, 1.0]), [0, 1, 1], 2.0).tolist() == [1.0, -4.0, 1.0]


def test_greedy_takes_the_lowest_id_of_a_tie() -> None:
    assert choose(np.array([1.0, 3.0, 3.0]), [], Sampling(temperature=0), np.random.default_rng(0)) == 1


def test_draws_follow_the_probabilities() -> None:
    rng, row = np.random.default_rng(1), np.log(np.array([0.6, 0.3, 0.1]))
    counts = np.bincount([choose(row, [], Sampling(), rng) for _ in range(4000)], minlength=3)
    assert np.abs(counts / 4000 - [0.6, 0.3, 0.1]).max() < 0.03


@pytest.mark.parametrize("wrong", [{"temperature": -1}, {"top_p": 0}, {"top_k": -1}, {"min_p": 2}, {"repetition_penalty": 0}])
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ContractError, match=next(iter(wrong))):
        Sampling(**wrong)  # type: ignore[arg-type]


def test_the_order_is_that_of_transformers() -> None:
    transformers, torch = pytest.importorskip("transformers"), pytest.importorskip("torch")
    row, seen = np.random.default_rng(3).normal(0, 3, 60), [4, 7, 7]
    ours = probabilities(row, seen, Sampling(0.7, top_k=20, top_p=0.8, min_p=0.02, repetition_penalty=1.3))
    scores, ids = torch.tensor(row)[None], torch.tensor(seen)[None]
    for step in (
        transformers.RepetitionPenaltyLogitsProcessor(1.3),
        transformers.TemperatureLogitsWarper(0.7),
        transformers.TopKLogitsWarper(20),
        transformers.TopPLogitsWarper(0.8),
        transformers.MinPLogitsWarper(0.02),
    ):
        scores = step(ids, scores)
    assert np.abs(ours - scores.softmax(-1)[0].numpy()).max() < 1e-12
