"""Rows of both sides in, a few numbers a position out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from logitproof.errors import EngineGarbage
from logitproof.readers.llamacpp_kl_base import DEPTH


@dataclass(frozen=True)
class Scores:
    """Of every row that counts [n]: KL(base ‖ candidate) and both negative log-likelihoods of the next token, in nats.

    `same_top` says whether both sides hold the same token for the most probable, ties going to the lowest id.
    """

    kl_divergence: np.ndarray
    nll_base: np.ndarray
    nll: np.ndarray
    same_top: np.ndarray

    @property
    def delta_p(self) -> np.ndarray:
        """Probability of the next token, the candidate's less the base's [n]."""
        return np.asarray(np.exp(-self.nll) - np.exp(-self.nll_base))


def of_logits(base: np.ndarray, candidate: np.ndarray, labels: np.ndarray) -> Scores:
    """Of two arrays of logits [n, V]: exact, in float64, over the whole vocabulary."""
    from logitproof.rows.statistics import row_statistics

    statistics = row_statistics(base, candidate, labels)
    mass = statistics.log_mass_candidate - statistics.log_mass_reference
    return _finite(
        Scores(
            np.maximum(mass - statistics.p_delta, 0.0),
            statistics.max_reference + statistics.log_mass_reference - statistics.label_reference,
            statistics.max_candidate + statistics.log_mass_candidate - statistics.label_candidate,
            statistics.ids_reference[:, 0] == statistics.ids_candidate[:, 0],
        )
    )


def of_kept(base: np.ndarray, candidate: np.ndarray, labels: np.ndarray) -> Scores:
    """Of float32 log-probabilities [n, V] out of a base file and logits [n, V]: by the definition of the tool that wrote it.

    What the file holds is taken as it is, not normalized again, and entries at its clamp, 16 nats below 1, are left out. The
    arithmetic is the tool's too, float32 but for sums, since its printed digits are to be had again.
    """
    kl, top = np.empty(len(labels)), np.empty(len(labels), bool)
    nll, nll_base = np.empty(len(labels), np.float32), np.empty(len(labels), np.float32)

    def score(row: int) -> None:
        label = labels[row]
        log_p, logits = base[row].astype(np.float32), candidate[row].astype(np.float32)
        best = logits.max()
        log_sum = best + np.float32(np.log(np.exp(logits - best).sum(dtype=np.float64)))
        inside = log_p > -DEPTH
        terms = np.exp(log_p[inside]) * (log_p[inside] - logits[inside] + log_sum)
        kl[row] = terms.sum(dtype=np.float64)
        top[row] = np.argmax(log_p) == np.argmax(logits)
        nll[row], nll_base[row] = log_sum - logits[label], -log_p[label]

    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        list(pool.map(score, range(len(labels))))
    return _finite(Scores(kl, nll_base, nll, top))


def joined(scores: Sequence[Scores]) -> Scores:
    """The scores of several windows as one."""
    names = ("kl_divergence", "nll_base", "nll", "same_top")
    return Scores(*(np.concatenate([getattr(part, name) for part in scores]) for name in names))


def _finite(scores: Scores) -> Scores:
    """The same; a mean over what is left of rows that cannot be compared would be a mean of something else."""
    for name in ("kl_divergence", "nll_base", "nll"):
        bad = np.flatnonzero(~np.isfinite(getattr(scores, name)))
        if len(bad):
            text = f"{name} is not finite at row {bad[0]}, and at {len(bad)} of {len(scores.nll)} rows"
            raise EngineGarbage(text, remedy="a token that one side masks (-inf) and the other does not has no divergence")
    return scores
