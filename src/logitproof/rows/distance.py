"""Distances between rows of logits."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np


def rms(values: Iterable[np.ndarray]) -> float:
    """Root mean square over all of them."""
    return float(np.sqrt(np.mean(np.concatenate(list(values)) ** 2)))


def rms_by_position(delta: np.ndarray) -> np.ndarray:
    """RMS [T] of differences of logits [T, V] after the mean of each row is taken off: softmax does not see it."""
    return np.asarray(np.sqrt(((delta - delta.mean(axis=1, keepdims=True)) ** 2).mean(axis=1)))


def _by_position(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """RMS logit difference [T] after the mean difference is taken off; infinite where a row is not finite.

    Over the entries of `b` that are not NaN; 0 where there are fewer than two of them.
    """
    known = ~np.isnan(b)
    count = np.maximum(known.sum(axis=1), 1)
    delta = np.where(known, np.asarray(a, np.float64) - b, 0.0)
    delta = np.where(known, delta - (delta.sum(axis=1) / count)[:, None], 0.0)
    found = np.sqrt((delta**2).sum(axis=1) / count)
    return np.asarray(np.where(np.isfinite(found), found, np.inf))


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(values**2)))


def centred_distances(expected: np.ndarray, found: np.ndarray) -> np.ndarray:
    """float64 [P]: root mean square difference of two [P, V], mean difference taken off; infinite where not finite.

    The mean is taken off because softmax does not see it.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        delta = found.astype(np.float64) - expected
        delta -= delta.mean(-1, keepdims=True)
        rms = np.sqrt(np.mean(delta**2, -1))
    return np.where(np.isfinite(rms), rms, np.inf)
