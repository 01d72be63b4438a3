"""Logits as probabilities, with NumPy alone. Whole comparisons go through the kernel; this is for a few rows at a time."""

from __future__ import annotations

import numpy as np


def softmax(scores: np.ndarray) -> np.ndarray:
    """Probabilities in float64 over the last axis; entries of -inf have none."""
    shifted = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=-1, keepdims=True))


def log_softmax(scores: np.ndarray) -> np.ndarray:
    """Log-probabilities in float64, nats, over the last axis; -inf stays -inf."""
    shifted = np.asarray(scores, np.float64)
    shifted = shifted - shifted.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))


def logarithms(probabilities: np.ndarray) -> np.ndarray:
    """Log-probabilities of probabilities; of those that are 0, -inf."""
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(probabilities))


def kl_divergence(reference: np.ndarray, candidate: np.ndarray) -> np.ndarray:
    """KL(reference ‖ candidate) in nats over the last axis, of log-probabilities; never below 0, infinite without support."""
    mass = np.exp(reference)
    with np.errstate(invalid="ignore"):
        terms = np.where(mass > 0, mass * (reference - candidate), 0.0)
    return np.asarray(np.maximum(terms.sum(axis=-1), 0.0))
