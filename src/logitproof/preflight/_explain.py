"""What a tensor that is wrong looks like: the words that send a reader to the cause."""

from __future__ import annotations

import numpy as np

from logitproof.weights.checkpoint import Array

CLOSE = 0.25
"""Relative error below which a rearranged tensor is taken for the same, coarse types included."""
UNRELATED = 0.05


def is_constant(values: Array) -> float | None:
    """The one value that all of `values` have, or None."""
    first = float(values.flat[0]) if values.size else 0.0
    return first if values.size > 1 and bool((values == first).all()) else None


def explain(ours: Array, theirs: Array, shape: tuple[int, ...]) -> tuple[str, str]:
    """(code, text) for rows [n, C] of a tensor of `shape`; the text is empty where nothing explains it."""
    value = is_constant(theirs)
    if value is not None:
        return "PF106", f"every value is {value:g}: it was never loaded"
    if is_constant(ours) is not None:
        return "PF106", f"trained values, while every value of the reference's is {float(ours.flat[0]):g}"
    if text := _rearranged(ours, theirs, shape):
        return "PF105", text
    scale = float((ours * theirs).sum() / (ours * ours).sum())
    if _off(scale * ours, theirs) < CLOSE:
        return "PF104", f"the values times {scale:.4g}"
    if _off(ours + 1, theirs) < 0.01 or _off(ours - 1, theirs) < 0.01:
        return "PF104", f"the values {'plus' if _off(ours + 1, theirs) < 0.01 else 'minus'} one"
    if abs(_correlation(ours, theirs)) < UNRELATED and ours.size > 1000:
        spread = float(theirs.std())
        return "PF104", f"values that have nothing to do with them (mean {theirs.mean():.1e}, spread {spread:.2g})"
    return "PF104", ""


def _rearranged(ours: Array, theirs: Array, shape: tuple[int, ...]) -> str:
    square = len(shape) == 2 and shape[0] == shape[1] and ours.shape == shape
    if square and _off(ours.T, theirs) < CLOSE:
        return "transposed"
    if ours.shape[0] > 1 and _off(ours[_by_norm(ours)], theirs[_by_norm(theirs)]) < CLOSE:
        return "the same rows in another order (a permutation of Q and K for rotary pairs, or of heads)"
    columns = ours.shape[1] > 1 and ours.shape[0] > 1
    if columns and _off(ours[:, _by_norm(ours.T)], theirs[:, _by_norm(theirs.T)]) < CLOSE:
        return "the same columns in another order"
    return ""


def _by_norm(values: Array) -> Array:
    return np.argsort((values.astype(np.float64) ** 2).sum(axis=1), kind="stable")


def _off(ours: Array, theirs: Array) -> float:
    if ours.shape != theirs.shape:
        return float("inf")
    return float(np.linalg.norm(ours - theirs) / max(float(np.linalg.norm(ours)), 1e-30))


def _correlation(ours: Array, theirs: Array) -> float:
    a, b = ours - ours.mean(), theirs - theirs.mean()
    return float((a * b).sum() / max(float(np.linalg.norm(a) * np.linalg.norm(b)), 1e-30))
