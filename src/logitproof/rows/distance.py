"""Distances between rows of logits, and where two sequences part."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


def rms(*values: np.ndarray) -> float:
    """Root mean square over all numbers of all arrays; infinite where a square is."""
    with np.errstate(over="ignore"):
        return float(np.sqrt(np.mean(np.concatenate([np.ravel(array) for array in values]) ** 2)))


def rms_by_position(delta: np.ndarray, known: np.ndarray | None = None) -> np.ndarray:
    """float64 [T]: RMS of differences of logits [T, V] after each row's mean is taken off; infinite where not finite.

    The mean is taken off because softmax does not see it: this is the metric `rms_delta_logit`. Where `known` [T, V] is given,
    only entries that are known count; a row with fewer than two of them is 0.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        wide = np.asarray(delta, np.float64)
        if known is None:
            centred = wide - wide.mean(axis=1, keepdims=True)
            size = np.sqrt((centred**2).mean(axis=1))
        else:
            count = np.maximum(known.sum(axis=1), 1)
            wide = np.where(known, wide, 0.0)
            centred = np.where(known, wide - (wide.sum(axis=1) / count)[:, None], 0.0)
            size = np.sqrt((centred**2).sum(axis=1) / count)
    return np.asarray(np.where(np.isfinite(size), size, np.inf))


def distances(reference: np.ndarray, candidate: np.ndarray, known: np.ndarray | None = None) -> np.ndarray:
    """float64 [T]: `rms_by_position` of two [T, V] of any dtype."""
    with np.errstate(invalid="ignore", over="ignore"):
        return rms_by_position(np.asarray(candidate, np.float64) - np.asarray(reference, np.float64), known)


def first_difference(reference: Sequence[Any], candidate: Sequence[Any]) -> int:
    """The first index at which two sequences differ; the length of the shorter one where none does."""
    pairs = enumerate(zip(reference, candidate, strict=False))
    return next((index for index, (left, right) in pairs if left != right), min(len(reference), len(candidate)))
