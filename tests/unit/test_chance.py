"""Intervals, tests and quantiles that are computed with NumPy alone are those of scipy, which no user has to install."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from logitproof.comparison.chance import (
    bootstrap_mean,
    bootstrap_ratio,
    mcnemar,
    mmd_of_permutations,
    share_at_least,
    student,
    wilson,
)


@pytest.mark.parametrize("quantile", [0.9, 0.99, 0.999])
@pytest.mark.parametrize("degrees", [1, 2, 5, 7, 15, 31, 200])
def test_a_quantile_of_student(degrees: int, quantile: float) -> None:
    normal = float(scipy.stats.norm.ppf(quantile))
    wanted = scipy.stats.t.ppf(quantile, degrees)
    assert student(degrees, quantile, normal) == pytest.approx(wanted, rel=1e-9 if degrees < 3 else 5e-3)


@given(st.integers(1, 500), st.data())
def test_a_wilson_interval(trials: int, data: st.DataObject) -> None:
    hits = data.draw(st.integers(0, trials))
    wanted = scipy.stats.binomtest(hits, trials).proportion_ci(0.95, "wilson")
    assert wilson(hits, trials) == pytest.approx((wanted.low, wanted.high), abs=1e-9)


@given(st.integers(0, 60), st.integers(0, 60))
def test_the_test_of_mcnemar(lost: int, won: int) -> None:
    wanted = scipy.stats.binomtest(lost, lost + won, 0.5).pvalue if lost + won else 1.0
    assert mcnemar(lost, won) == pytest.approx(wanted, rel=1e-9)
    assert mcnemar(lost, won) == mcnemar(won, lost)


def test_a_bootstrap_of_a_mean() -> None:
    values = np.random.default_rng(3).exponential(1.0, 60)
    wanted = scipy.stats.bootstrap((values,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(1))
    found = bootstrap_mean(values, resamples=20_000, seed=0)
    spread = wanted.confidence_interval.high - wanted.confidence_interval.low
    assert found == pytest.approx(tuple(wanted.confidence_interval), abs=0.03 * spread)


def test_a_bootstrap_over_groups_draws_each_group_whole() -> None:
    sums, counts = np.array([2.0, 30.0, 4.0]), np.array([1, 10, 2])
    low, high = bootstrap_ratio(sums, counts, seed=0)
    assert 2.0 <= low <= sums.sum() / counts.sum() <= high <= 3.0
    assert bootstrap_ratio(sums[:1], counts[:1]) == (2.0, 2.0)


def test_nothing_has_no_interval() -> None:
    with pytest.raises(ValueError, match="nothing"):
        bootstrap_mean(np.empty(0), resamples=10, seed=0)


def test_mmd_is_the_sum_over_pairs() -> None:
    random = np.random.default_rng(0)
    points = random.normal(size=(9, 2))
    kernel = np.exp(-((points[:, None] - points[None]) ** 2).sum(-1))
    first, second = range(4), range(4, 9)
    inside = np.mean([kernel[i, j] for i in first for j in first if i != j])
    outside = np.mean([kernel[i, j] for i in second for j in second if i != j])
    between = np.mean([kernel[i, j] for i in first for j in second])
    assert mmd_of_permutations(kernel, 4, 0, random)[0] == pytest.approx(inside + outside - 2 * between)


def test_the_share_of_permutations_is_the_p_value_of_a_permutation_test() -> None:
    random = np.random.default_rng(0)
    points = np.concatenate([random.normal(0, 1, 12), random.normal(0.8, 1, 12)])
    values = mmd_of_permutations(np.exp(-((points[:, None] - points[None]) ** 2)), 12, 4000, random)

    def statistic(left: np.ndarray, right: np.ndarray) -> float:
        both = np.concatenate([left, right])
        return float(mmd_of_permutations(np.exp(-((both[:, None] - both[None]) ** 2)), len(left), 0, random)[0])

    wanted = scipy.stats.permutation_test(
        (points[:12], points[12:]), statistic, n_resamples=4000, alternative="greater", rng=np.random.default_rng(2)
    )
    assert share_at_least(float(values[0]), values[1:]) == pytest.approx(wanted.pvalue, abs=0.03)
