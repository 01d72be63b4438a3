"""Both sides draw with the same noise: the tokens must be the same, except where the noise leaves a tie.

With Gumbel noise g a draw is argmax(log p + g); the margin of that score is the post-Gumbel margin (as in DiFR, Karvonen
et al. 2025). Engines draw by inverting the cumulated probabilities instead, with a uniform number that can be told from
their seed. Either way a token is a fault only if no logits within the band of the ones at hand could have given it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from logitproof.protocol.sampler import Sampling, penalized, probabilities, scaled_last

Draw = Callable[[np.ndarray, Sequence[int], Sampling], np.ndarray]
"""Probabilities [V] that the next token is drawn from."""


@dataclass(frozen=True)
class Reach:
    """What a sampler may draw from logits that are known up to a band.

    `scores` [V] are the tempered logits, `loose` the tokens that may be left by truncation, `tight` those that must be,
    `slack` how far a score may move, half of the band.
    """

    scores: np.ndarray
    loose: np.ndarray
    tight: np.ndarray
    slack: float

    def by_gumbel(self, noise: np.ndarray, token: int) -> bool:
        """Whether the token may have the highest sum of score and noise [V]."""
        sums = self.scores + noise
        return bool(self.loose[token] and sums[token] + 2 * self.slack >= sums.max(where=self.tight, initial=-np.inf))

    def by_uniform(self, number: float, token: int, *, by_rank: bool) -> bool:
        """Whether the token may hold `number` of the cumulated probabilities, in the order of ids or of ranks."""
        if not self.loose[token]:
            return False
        if by_rank:
            before = self.scores > self.scores[token] + 2 * self.slack
            maybe = self.scores > self.scores[token] - 2 * self.slack
        else:
            before = maybe = np.arange(len(self.scores)) < token
        up, down = (np.exp(self.scores - self.scores.max() + sign * self.slack) for sign in (1, -1))
        rest = np.arange(len(self.scores)) != token
        least = _share(down[before & self.tight & rest].sum(), up[self.loose & ~(before & rest)].sum())
        most = _share(up[(maybe & self.loose) | ~rest].sum(), down[self.tight & ~maybe & rest].sum())
        return bool(least - 1e-9 <= number <= most + 1e-9)


@dataclass(frozen=True)
class Fault:
    """A token that the same noise could not have given."""

    prompt: str
    position: int
    expected: int
    drawn: int


@dataclass(frozen=True)
class Synchronized:
    """`equal` of `draws` tokens are the same on both sides, `ties` differ inside the band, `faults` outside."""

    draws: int
    equal: int
    ties: int
    faults: tuple[Fault, ...]

    @property
    def match(self) -> float:
        """Share of draws that are no fault; NaN where nothing was drawn."""
        return 1 - len(self.faults) / self.draws if self.draws else float("nan")

    def __add__(self, addend: Synchronized) -> Synchronized:
        faults = (*self.faults, *addend.faults)
        return Synchronized(self.draws + addend.draws, self.equal + addend.equal, self.ties + addend.ties, faults)


NOTHING = Synchronized(0, 0, 0, ())


def reach(logits: np.ndarray, token_ids: Sequence[int], sampling: Sampling, tie: float, *, last: bool = False) -> Reach:
    """What may be drawn after `token_ids` from logits [V] that are right up to `tie` / 2 each; `last`: temperature last."""
    plain = penalized(logits, token_ids, sampling.repetition_penalty)
    warm = plain / sampling.temperature
    filtered, band = (plain, tie) if last else (warm, tie / sampling.temperature)
    loose, tight = (_left(filtered, sampling, sign * band) for sign in (1, -1))
    return Reach(warm, loose, tight, tie / sampling.temperature / 2)


def gumbel(seed: int, position: int, size: int) -> np.ndarray:
    """Standard Gumbel noise [size], the same on every machine."""
    return np.asarray(np.random.Generator(np.random.Philox(key=[seed, position])).gumbel(size=size))


def synchronized(
    reference: np.ndarray,
    candidate: np.ndarray,
    token_ids: Sequence[int],
    sampling: Sampling,
    tie: float,
    *,
    prompt: str = "",
    positions: Sequence[int] | None = None,
    drawn_from: Draw = probabilities,
) -> Synchronized:
    """Draw once at every position from the rows [T, V] of both sides, which were fed the same tokens.

    `drawn_from` is the candidate's sampler; the reference's is the right one. The noise is that of sampling.seed.
    """
    total = NOTHING
    for position in range(len(reference)) if positions is None else positions:
        seen, row = token_ids[: position + 1], reference[position]
        noise = gumbel(sampling.seed, position, len(row))
        expected = _most(probabilities(row, seen, sampling), noise)
        drawn = _most(drawn_from(candidate[position], seen, sampling), noise)
        may = expected == drawn or reach(row, seen, sampling, tie).by_gumbel(noise, drawn)
        total += judged(Fault(prompt, position, expected, drawn), may)
    return total


def judged(pair: Fault, may: bool) -> Synchronized:
    """One draw: equal, a tie, or a fault."""
    if pair.expected == pair.drawn:
        return Synchronized(1, 1, 0, ())
    return Synchronized(1, 0, 1, ()) if may else Synchronized(1, 0, 0, (pair,))


def expected_by_uniform(
    logits: np.ndarray, token_ids: Sequence[int], sampling: Sampling, number: float, *, by_rank: bool, last: bool
) -> int:
    """The token that one uniform number gives."""
    p = (scaled_last if last else probabilities)(logits, token_ids, sampling)
    order = np.argsort(-p, kind="stable") if by_rank else np.arange(len(p))
    cumulated = np.cumsum(p[order])
    at = int(np.searchsorted(cumulated, number * cumulated[-1], side="right"))
    return int(order[min(at, int(np.flatnonzero(p[order])[-1]))])


def _most(p: np.ndarray, noise: np.ndarray) -> int:
    with np.errstate(divide="ignore"):
        return int(np.argmax(np.log(p) + noise))


def _share(part: float, rest: float) -> float:
    return float(part / (part + rest)) if part > 0 else 0.0


def _left(scores: np.ndarray, sampling: Sampling, band: float) -> np.ndarray:
    """Tokens that top-k, top-p and min-p leave where scores may move by half a band each; below 0 what they must leave."""
    left = np.ones(len(scores), bool)
    if 0 < sampling.top_k < len(scores):
        ordered = np.sort(scores)
        left &= scores >= ordered[-sampling.top_k] - band if band >= 0 else scores > ordered[-sampling.top_k - 1] - band
    if sampling.top_p < 1.0:
        left &= _nucleus(np.where(left, scores, -np.inf), sampling.top_p, band)
    if sampling.min_p > 0.0:
        left &= scores >= scores.max() + np.log(sampling.min_p) - band
    return left


def _nucleus(scores: np.ndarray, top_p: float, band: float) -> np.ndarray:
    """Tokens before which less than `top_p` may stand (band ≥ 0), or must (band < 0); none of none."""
    if not np.isfinite(scores).any():
        return np.zeros(len(scores), bool)
    weights = np.exp(scores - scores.max(initial=-np.inf, where=np.isfinite(scores)))
    ordered = np.sort(scores)[::-1]
    summed = np.concatenate([[0.0], np.cumsum(np.sort(weights)[::-1])])
    # sure (or possible) to stand before a token: better by more than the band
    count = np.searchsorted(-ordered, -(scores + band), side="left")
    ahead = summed[count] - (np.where(band < 0, weights, 0.0))
    ahead = np.maximum(ahead, 0.0) * np.exp(-band / 2)
    behind = np.maximum(summed[-1] - np.maximum(summed[count] - np.where(band < 0, weights, 0.0), 0.0), 0.0) * np.exp(band / 2)
    return np.asarray((ahead < top_p * (ahead + behind)) & np.isfinite(scores))
