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


def explain(reference: Array, candidate: Array, shape: tuple[int, ...]) -> tuple[str, str]:
    """(code, text) for rows [n, C] of a tensor of `shape`; the text is empty where nothing explains it."""
    value = is_constant(candidate)
    if value is not None:
        return "PF106", f"every value is {value:g}: it was never loaded"
    if is_constant(reference) is not None:
        return "PF106", f"trained values, while every value of the reference's is {float(reference.flat[0]):g}"
    if text := _rearranged(reference, candidate, shape):
        return "PF105", text
    scale = float((reference * candidate).sum() / (reference * reference).sum())
    if _off(scale * reference, candidate) < CLOSE:
        return "PF104", f"the values times {scale:.4g}"
    if _off(reference + 1, candidate) < 0.01 or _off(reference - 1, candidate) < 0.01:
        return "PF104", f"the values {'plus' if _off(reference + 1, candidate) < 0.01 else 'minus'} one"
    if abs(_correlation(reference, candidate)) < UNRELATED and reference.size > 1000:
        spread = float(candidate.std())
        return "PF104", f"values that have nothing to do with them (mean {candidate.mean():.1e}, spread {spread:.2g})"
    return "PF104", ""


def _rearranged(reference: Array, candidate: Array, shape: tuple[int, ...]) -> str:
    square = len(shape) == 2 and shape[0] == shape[1] and reference.shape == shape
    if square and _off(reference.T, candidate) < CLOSE:
        return "transposed"
    if reference.shape[0] > 1 and _off(reference[_by_norm(reference)], candidate[_by_norm(candidate)]) < CLOSE:
        return "the same rows in another order (a permutation of Q and K for rotary pairs, or of heads)"
    columns = reference.shape[1] > 1 and reference.shape[0] > 1
    if columns and _off(reference[:, _by_norm(reference.T)], candidate[:, _by_norm(candidate.T)]) < CLOSE:
        return "the same columns in another order"
    return ""


def _by_norm(values: Array) -> Array:
    return np.argsort((values.astype(np.float64) ** 2).sum(axis=1), kind="stable")


def _off(reference: Array, candidate: Array) -> float:
    if reference.shape != candidate.shape:
        return float("inf")
    return float(np.linalg.norm(reference - candidate) / max(float(np.linalg.norm(reference)), 1e-30))


def _correlation(reference: Array, candidate: Array) -> float:
    a, b = reference - reference.mean(), candidate - candidate.mean()
    return float((a * b).sum() / max(float(np.linalg.norm(a) * np.linalg.norm(b)), 1e-30))
