"""Distributions as they are drawn from: after temperature and truncation, at teacher-forced positions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from logitproof.protocol.sampler import Sampling, probabilities
from logitproof.rows.probability import kl_divergence, log_softmax, logarithms

POSITIONS = 192
"""Positions of a prompt at which distributions at a temperature are compared."""


@dataclass(frozen=True)
class Drawn:
    """Float64 [T] each: `kl` in nats of the tempered rows, whole; `tv` and `js` of what is drawn from.

    KL is of the rows before top-k, top-p and min-p, since two truncations that differ by one token make it infinite;
    `kept` is the overlap (Jaccard) of the tokens that truncation leaves.
    """

    kl: np.ndarray
    tv: np.ndarray
    js: np.ndarray
    kept: np.ndarray


def drawn_from(
    reference: np.ndarray, candidate: np.ndarray, token_ids: Sequence[int], sampling: Sampling, skip: int = 0
) -> Drawn:
    """Compare rows [T, V] of two engines under `sampling`, leaving out the first `skip` positions.

    Row t follows token_ids[: t + 1]. At temperature 0 there is no distribution to compare: ValueError.
    """
    if sampling.temperature == 0:
        raise ValueError("a greedy choice has no distribution")
    columns: list[tuple[float, float, float, float]] = []
    for position in range(skip, len(reference)):
        seen = token_ids[: position + 1]
        p, q = (probabilities(rows[position], seen, sampling) for rows in (reference, candidate))
        a, b = (log_softmax(np.asarray(rows[position], np.float64) / sampling.temperature) for rows in (reference, candidate))
        columns.append(
            (
                float(kl_divergence(a, b)),
                0.5 * float(np.abs(p - q).sum()),
                _js(p, q),
                float((p * q > 0).sum() / (p + q > 0).sum()),
            )
        )
    table = np.array(columns, np.float64).reshape(-1, 4)
    return Drawn(*(table[:, n] for n in range(4)))


def places(length: int) -> list[int]:
    """At most `POSITIONS` of so many positions, evenly spread, the first and the last with them."""
    return [int(at) for at in np.unique(np.linspace(0, length - 1, POSITIONS).astype(int))]


def _js(p: np.ndarray, q: np.ndarray) -> float:
    """Jensen-Shannon divergence in nats, at most ln 2 (Lin 1991)."""
    middle = logarithms(0.5 * (p + q))
    return 0.5 * float(kl_divergence(logarithms(p), middle) + kl_divergence(logarithms(q), middle))
