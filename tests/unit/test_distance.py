"""What stands beside the kernel for a few rows at a time gives what the kernel gives."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.special
from hypothesis import given, settings
from hypothesis import strategies as st

from logitproof.comparison.compare import compare
from logitproof.comparison.summary import STATISTICS, summarize
from logitproof.rows.distance import distances, first_difference, rms, rms_by_position
from logitproof.rows.probability import kl_divergence, log_softmax, logarithms, softmax

SEEDS = st.integers(0, 10_000)
NO_LABELS = [-1] * 5


def rows(seed: int, spread: float = 0.3) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    reference = random.normal(0, 3, (5, 40))
    return reference, reference + random.normal(0.7, spread, reference.shape)


@settings(deadline=None)  # the kernel compiles at its first use
@given(SEEDS)
def test_the_distance_is_the_metric(seed: int) -> None:
    reference, candidate = rows(seed)
    assert distances(reference, candidate) == pytest.approx(
        compare(reference, candidate, labels=NO_LABELS).metrics["rms_delta_logit"], rel=1e-9
    )
    assert distances(reference, candidate) == pytest.approx(distances(candidate, reference), rel=1e-12)


@settings(deadline=None)  # the kernel compiles at its first use
@given(SEEDS)
def test_kl_is_the_metric(seed: int) -> None:
    reference, candidate = rows(seed)
    found = kl_divergence(log_softmax(reference), log_softmax(candidate))
    assert found == pytest.approx(compare(reference, candidate, labels=NO_LABELS).metrics["kl_divergence"], rel=1e-6, abs=1e-12)


@given(SEEDS)
def test_probabilities_are_those_of_scipy(seed: int) -> None:
    reference, candidate = rows(seed)
    reference[0, :7] = -np.inf
    assert softmax(reference) == pytest.approx(scipy.special.softmax(reference, axis=-1))
    assert log_softmax(reference) == pytest.approx(scipy.special.log_softmax(reference, axis=-1))
    p, q = softmax(reference), softmax(candidate)
    assert kl_divergence(logarithms(p), logarithms(q)) == pytest.approx(scipy.special.rel_entr(p, q).sum(-1), abs=1e-12)


def test_kl_without_support_is_infinite() -> None:
    p, q = logarithms(np.array([0.5, 0.5, 0.0])), logarithms(np.array([1.0, 0.0, 0.0]))
    assert kl_divergence(p, q) == np.inf and kl_divergence(q, p) == pytest.approx(np.log(2))


def test_a_constant_is_no_distance() -> None:
    reference, _ = rows(1)
    assert distances(reference, reference + 5).max() < 1e-12
    assert distances(reference.astype(np.float16), reference.astype(np.float16)).max() == 0


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_a_row_that_is_not_finite_is_infinitely_far(wrong: float) -> None:
    reference, candidate = rows(2)
    candidate[3, 1] = wrong
    assert np.flatnonzero(np.isinf(distances(reference, candidate))).tolist() == [3]


def test_only_known_entries_count() -> None:
    reference, candidate = rows(3)
    known = np.zeros(reference.shape, bool)
    known[:, [2, 5, 9, 30]] = True
    wanted = distances(reference[:, known[0]], candidate[:, known[0]])
    assert distances(reference, np.where(known, candidate, np.nan), known) == pytest.approx(wanted)
    known[:] = False
    assert not rms_by_position(candidate - reference, known).any()


def test_rms_is_over_all_numbers() -> None:
    assert rms(np.array([3.0]), np.array([4.0, 0.0])) == pytest.approx(np.sqrt(25 / 3))


def test_a_summary_has_every_statistic_by_its_name() -> None:
    values = np.random.default_rng(0).normal(size=200)
    summary = summarize([values[:50], values[50:]], seed=0)
    assert {name: summary[name] for name in STATISTICS} == {name: of(values) for name, of in STATISTICS.items()}


@given(st.lists(st.integers(0, 2)), st.lists(st.integers(0, 2)))
def test_the_first_difference_is_where_what_is_shared_ends(left: list[int], right: list[int]) -> None:
    index = first_difference(left, right)
    assert left[:index] == right[:index]
    assert index == min(len(left), len(right)) or left[index] != right[index]
    assert index == first_difference(right, left)
