"""Train/inference mismatch: log-probabilities of sampled tokens under the rollout engine and under the trainer.

Names and formulas are those of reinforcement learning from a rollout engine: with r = q/p (trainer q, rollout p)
k1 = -log r and k3 = r - 1 - log r (Schulman 2020) both estimate KL(rollout‖trainer) without bias when tokens were drawn
from the rollout engine; k3 is never negative.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from logitproof.rows.probability import log_softmax

OUTLIER = 2.0
"""A token whose probability differs by more than this factor is listed."""


@dataclass(frozen=True)
class Outlier:
    """One token whose two probabilities lie far apart; log-probabilities in nats."""

    prompt: str
    position: int
    token: int
    rollout: float
    trainer: float


@dataclass(frozen=True)
class Mismatch:
    """Figures over all drawn tokens.

    `k1`, `k3` in nats; `effective_samples` is the share (Kish) that importance weights of tokens leave; `max_ratio`
    the largest q/p or p/q; `prob_error` the mean of exp|log q - log p| (token_mult_prob_error).
    """

    tokens: int
    k1: float
    k3: float
    effective_samples: float
    max_ratio: float
    prob_error: float
    outliers: tuple[Outlier, ...]


def mismatch(
    rollout: Sequence[np.ndarray], trainer: Sequence[np.ndarray], tokens: Sequence[Sequence[int]], prompts: Sequence[str]
) -> Mismatch:
    """Compare log-probabilities [N] of the tokens that each completion drew, under both engines.

    Raises ValueError where nothing was drawn, or lengths differ.
    """
    if not any(len(drawn) for drawn in tokens):
        raise ValueError("no token was drawn")
    p, q = (
        np.concatenate([np.asarray(x, np.float64) for x in rollout]),
        np.concatenate([np.asarray(x, np.float64) for x in trainer]),
    )
    places = [(name, n, token) for name, drawn in zip(prompts, tokens, strict=True) for n, token in enumerate(drawn)]
    if not len(p) == len(q) == len(places):
        raise ValueError(f"{len(p)} and {len(q)} log-probabilities of {len(places)} tokens")
    log_ratio = q - p
    ratio = np.exp(log_ratio)
    far = np.flatnonzero(np.abs(log_ratio) > np.log(OUTLIER))
    order = far[np.argsort(-np.abs(log_ratio[far]))]
    return Mismatch(
        tokens=len(places),
        k1=float(-log_ratio.mean()),
        k3=float((ratio - 1 - log_ratio).mean()),
        effective_samples=float(ratio.sum() ** 2 / (len(ratio) * (ratio**2).sum())),
        max_ratio=float(np.exp(np.abs(log_ratio).max())),
        prob_error=float(np.exp(np.abs(log_ratio)).mean()),
        outliers=tuple(_outlier(places[at], p[at], q[at]) for at in order[:20]),
    )


def _outlier(place: tuple[str, int, int], rollout: float, trainer: float) -> Outlier:
    prompt, position, token = place
    return Outlier(prompt, position, token, float(rollout), float(trainer))


def label_log_probabilities(logits: np.ndarray, token_ids: Sequence[int], start: int) -> np.ndarray:
    """Log-probabilities [T - start] of token_ids[start:], from the rows [T, V] that precede each; `start` at least 1."""
    rows = log_softmax(logits[start - 1 : len(token_ids) - 1])
    return np.asarray(rows[np.arange(len(rows)), np.asarray(token_ids[start:], np.int64)])
