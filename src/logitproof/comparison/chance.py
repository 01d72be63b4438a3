"""What chance alone can do: intervals, tests and quantiles, each with its source, in NumPy alone."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

Z95 = 1.959963984540054
"""Standard deviations of a normal distribution between which 95 % of it lie."""
RESAMPLES = 2000
_DRAWS_AT_ONCE = 1 << 20


def student(degrees: int, quantile: float, normal: float) -> float:
    """The `quantile` of Student's t by its expansion in 1 / degrees (Abramowitz and Stegun 26.7.5); exact for 1 and 2.

    `normal` is the same quantile of the normal distribution.
    """
    if degrees == 1:
        return math.tan(math.pi * (quantile - 0.5))
    if degrees == 2:
        return 2 * (quantile - 0.5) * math.sqrt(2 / (4 * quantile * (1 - quantile)))
    z, n = normal, float(degrees)
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return sum(term / n**power for power, term in enumerate(terms))


def normal_of_student(t: float, degrees: int) -> float:
    """The standard normal deviate that is as likely as `t` of Student's distribution, for t >= 0 (Wallace 1959)."""
    if not math.isfinite(t):
        return math.inf
    return (8 * degrees + 1) / (8 * degrees + 3) * math.sqrt(degrees * math.log1p(t * t / degrees))


def wilson(hits: int, trials: int, z: float = Z95) -> tuple[float, float]:
    """Wilson score interval of a share (Wilson 1927); (0, 1) where nothing was tried."""
    if trials == 0:
        return 0.0, 1.0
    share = hits / trials
    middle = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z / (1 + z * z / trials) * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    return max(0.0, middle - half), min(1.0, middle + half)


def mcnemar(lost: int, won: int) -> float:
    """p-value of McNemar's test, exact (binomial, two-sided): whether `lost` and `won` are equally likely."""
    total = lost + won
    tail = sum(math.comb(total, k) for k in range(min(lost, won) + 1)) / 2**total
    return min(1.0, 2 * tail)


def bootstrap_mean(values: np.ndarray, *, resamples: int, seed: int) -> tuple[float, float]:
    """95 % percentile interval of the mean of `values` [N] (Efron 1979); an empty array has none: ValueError."""
    return bootstrap_ratio(values, None, resamples=resamples, seed=seed)


def bootstrap_ratio(
    sums: np.ndarray, counts: np.ndarray | None = None, *, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[float, float]:
    """95 % percentile interval of sum / count over groups [N] that are drawn whole; counts of 1 where none are given.

    An end that lies between infinite means is NaN or infinite: nothing is known of it.
    """
    if not len(sums):
        raise ValueError("nothing was drawn, so there is no interval")
    with np.errstate(invalid="ignore", over="ignore"):  # between two infinite values there is no percentile, and no sum
        means = [
            sums[drawn].mean(axis=1) if counts is None else sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
            for drawn in _drawn(len(sums), resamples, seed)
        ]
        low, high = np.percentile(np.concatenate(means), [2.5, 97.5])
    return float(low), float(high)


def _drawn(size: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Indices [n, size] of the resamples, as many at once as bounded memory takes."""
    random = np.random.default_rng(seed)
    step = max(1, _DRAWS_AT_ONCE // size)
    for start in range(0, resamples, step):
        yield random.integers(0, size, (min(step, resamples - start), size))


def mmd_of_permutations(kernel: np.ndarray, first: int, permutations: int, random: np.random.Generator) -> np.ndarray:
    """Unbiased MMD² [permutations + 1] (Gretton et al. 2012) of the split of `kernel` [N, N] at `first` and of random ones."""
    total, second = len(kernel), len(kernel) - first
    signs = np.tile(np.repeat([1.0, 0.0], [first, second]), (permutations + 1, 1))
    signs[1:] = random.permuted(signs[1:], axis=1)
    diagonal = np.diag(kernel)
    inside = np.einsum("pi,ij,pj->p", signs, kernel, signs, optimize=True) - signs @ diagonal
    others = 1.0 - signs
    outside = np.einsum("pi,ij,pj->p", others, kernel, others, optimize=True) - others @ diagonal
    between = np.einsum("pi,ij,pj->p", signs, kernel, others, optimize=True)
    assert total == first + second
    return np.asarray(inside / (first * (first - 1)) + outside / (second * (second - 1)) - 2 * between / (first * second))


def share_at_least(observed: float, permuted: np.ndarray) -> float:
    """p-value of a permutation test: the share of permutations, the observed one with them, that are at least as large."""
    return (1 + int((permuted >= observed - 1e-12).sum())) / (len(permuted) + 1)
