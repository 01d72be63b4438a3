"""KL divergence where only the best entries of a row are known: bounds, and never a number in their place.

Known entries count as they are. What is not known is bounded: the lower bound is the least divergence of
any two distributions that agree with what is known (an entry outside a top-k is not above its last); the
upper one is the greatest, and infinite unless the candidate's whole row is known or an assumption is
stated about how improbable a token may be for it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from logitproof.errors import ContractError
from logitproof.rows.top import SLACK, is_top

UNBOUNDED = "unbounded: the candidate's probabilities outside its top-k are not known and may be 0"
ORDER_ONLY = "not measured: only the order of the tokens is known"
EXACT_FLOAT = 1e-14
"""Relative error of a probability that was computed from whole rows in float64."""


@dataclass(frozen=True)
class Floor:
    """The assumption that no token is less probable for the candidate than exp(`log_probability`), with its reason."""

    log_probability: float
    reason: str

    def __post_init__(self) -> None:
        if not (self.log_probability < 0 and math.isfinite(self.log_probability) and self.reason):
            raise ContractError(
                f"a floor of {self.log_probability} without {'a reason' if not self.reason else 'sense'}",
                where="floor",
                remedy="give a negative log-probability in nats and say why no token lies below it",
            )

    def __str__(self) -> str:
        return f"no token is less probable for the candidate than exp({self.log_probability:g}): {self.reason}"


@dataclass(frozen=True)
class Known:
    """What is known of one distribution: `ids` sorted, `log_p` of each, `log_tail` the log mass of all others.

    `normalized` False: `log_p` are logits. `hidden` entries are not known (None: nobody says how many), none
    is above `log_cap`. `slack` is the error of each log-probability, `tail_error` that of the tail's mass.
    """

    ids: np.ndarray
    log_p: np.ndarray
    log_tail: float
    log_cap: float
    hidden: int | None
    normalized: bool = True
    slack: float = EXACT_FLOAT
    tail_error: float = 0.0


@dataclass(frozen=True)
class Bounds:
    """lower <= KL(reference || candidate) <= upper, in nats; `basis` says what the upper bound stands on."""

    lower: float
    upper: float
    basis: str


def known_row(row: np.ndarray, vocab_size: int | None) -> Known:
    """What one row of an engine says: all of it [V], or its best entries (`toprows.TOP` [K])."""
    if not is_top(row):
        return known_logits(row)
    kept = row[row["id"] >= 0]
    hidden = None if vocab_size is None else vocab_size - len(kept)
    return known_top(kept["id"].astype(np.int64), kept["log_probability"], hidden=hidden, slack=SLACK)


def nonfinite(row: np.ndarray) -> int:
    """Entries of a whole row that no healthy engine gives; masked ones (-inf) are none unless all are."""
    if is_top(row):
        return 0
    masked = np.isneginf(row)
    return int(len(row) if masked.all() else (~np.isfinite(row) & ~masked).sum())


def known_logits(logits: np.ndarray) -> Known:
    """A whole row; masked entries (-inf) have no probability."""
    values = np.asarray(logits, np.float64)
    top = values.max()
    log_p = values - top - math.log(np.exp(values - top).sum())
    return Known(np.arange(len(values)), log_p, -math.inf, -math.inf, 0)


def known_top(
    ids: np.ndarray,
    values: np.ndarray,
    *,
    hidden: int | None,
    normalized: bool = True,
    slack: float = 0.0,
    log_tail: float | None = None,
) -> Known:
    """The best entries of a row, by any order."""
    order = np.argsort(ids)
    log_p = np.asarray(values, np.float64)[order]
    slack = max(slack, EXACT_FLOAT)
    error = 0.0 if hidden == 0 else 2 * slack if log_tail is None else EXACT_FLOAT
    if log_tail is None:
        rest = 1.0 - float(np.exp(log_p).sum()) if normalized else 1.0
        log_tail = -math.inf if hidden == 0 or rest <= 0 else math.log(rest)
    # logits may all be above 0: the last known one is the cap, not 0
    cap = float(log_p.min()) if len(log_p) else 0.0
    return Known(np.asarray(ids)[order], log_p, log_tail, cap, hidden, normalized, slack, error)


def bound_kl(reference: Known, candidate: Known, floor: Floor | None = None) -> Bounds:
    """Bounds of KL(reference || candidate) from what is known of both."""
    pair = _Pair.of(reference, candidate)
    if not (reference.normalized and candidate.normalized):
        lower = max(_lower_of_logits(pair, reference) - pair.loss, 0.0)
        return Bounds(lower, math.inf, "unbounded: top-k logits without their log-sum-exp")
    exact = reference.slack <= EXACT_FLOAT and candidate.slack <= EXACT_FLOAT
    if reference.hidden == candidate.hidden == 0 and exact:
        value = max(pair.shared, 0.0)
        return Bounds(value, value, "exact: both rows are whole")
    lower = max(pair.shared + _least(pair, reference, candidate) - pair.loss, 0.0)
    upper, basis = _greatest(pair, reference, candidate, floor)
    return Bounds(lower, max(upper + pair.loss, lower), basis)


def measure(reference: Known, candidate: Known, label: int, floor: Floor | None = None) -> dict[str, float]:
    """Every metric of the catalogue that this much settles, and the bounds of KL; NaN: not measured."""
    ordered = np.isnan(reference.log_p).any() or np.isnan(candidate.log_p).any()
    bounds = Bounds(math.nan, math.nan, ORDER_ONLY) if ordered else bound_kl(reference, candidate, floor)
    p, q = ranked(reference), ranked(candidate)
    whole = reference.hidden == candidate.hidden == 0 and not ordered
    normalized = reference.normalized and candidate.normalized
    at_label = _value(candidate, label) - _value(reference, label) if normalized else math.nan
    regret = float(reference.log_p.max()) - _value(reference, int(q[0]))
    few = min(len(p), len(q))
    _, a, b = np.intersect1d(reference.ids, candidate.ids, assume_unique=True, return_indices=True)
    log_p, log_q = reference.log_p[a], candidate.log_p[b]
    finite = np.isfinite(log_p) & np.isfinite(log_q)
    delta = log_q[finite] - log_p[finite] if normalized else np.empty(0)
    return {
        "kl_divergence": max(_Pair.of(reference, candidate).shared, 0.0) if whole else math.nan,
        "kl_divergence_lower": bounds.lower,
        "kl_divergence_upper": bounds.upper,
        "top1": float(p[0] == q[0]),
        "regret": regret,
        "margin": float(np.diff(np.sort(reference.log_p)[-2:])[0]) if len(p) > 1 else math.nan,
        "label_logprob_delta": at_label,
        "top5_overlap": len(set(p[:5]) & set(q[:5])) / 5 if few >= 5 else math.nan,
        "top10_overlap": len(set(p[:10]) & set(q[:10])) / 10 if few >= 10 else math.nan,
        "rms_delta_logit": float(delta.std()) if whole and len(delta) else math.nan,
        "rms_delta_known": math.sqrt(float(np.mean(delta * delta))) if len(delta) else math.nan,
        "known_mass": float(np.exp(log_p[finite]).sum()) if normalized else math.nan,
    }


@dataclass(frozen=True)
class _Pair:
    """Two rows put together: entries known in both, in the reference only, in the candidate only."""

    log_p: np.ndarray  # known in both
    log_q: np.ndarray
    p_only: np.ndarray  # log p of entries that the candidate does not name
    q_only: np.ndarray  # log q of entries that the reference does not name
    shared: float  # sum p log(p / q) over the first
    loss: float  # what the errors of the values can change at most, in nats
    hidden: int | None  # entries that neither names

    @classmethod
    def of(cls, reference: Known, candidate: Known) -> _Pair:
        _, a, b = np.intersect1d(reference.ids, candidate.ids, assume_unique=True, return_indices=True)
        log_p, log_q = reference.log_p[a], candidate.log_p[b]
        p_only, q_only = np.delete(reference.log_p, a), np.delete(candidate.log_p, b)
        p = np.exp(log_p) if reference.normalized else np.zeros(len(log_p))
        with np.errstate(invalid="ignore"):
            ratio = log_p - log_q
            terms = np.where(p > 0, p * ratio, 0.0)
            spread = np.where(p > 0, p * (np.abs(ratio) + 1), 0.0).sum() + 2.0
        slack = reference.slack + candidate.slack
        loss = slack * math.exp(slack) * float(spread) if slack > 2 * EXACT_FLOAT else 1e-12
        union = len(log_p) + len(p_only) + len(q_only)
        hidden = None if reference.hidden is None else reference.hidden + len(reference.ids) - union
        return cls(log_p, log_q, p_only, q_only, float(terms.sum()), loss if math.isfinite(loss) else 0.0, hidden)


def _least(pair: _Pair, reference: Known, candidate: Known) -> float:
    """The least that the unknown part can add: the candidate gives its hidden mass where it helps most.

    Entries that only the reference names get at most the candidate's cap; everything else that the
    reference does not name is one bucket (merging entries never raises a divergence). The value is convex
    in the reference's masses, so their errors take off no more than slope times error.
    """
    p_tail = max(math.exp(reference.log_tail), reference.tail_error)
    bucket = float(np.exp(pair.q_only).sum()) * math.exp(candidate.slack)
    # The candidate's hidden mass, not less than its own rounding, so that a 0 in it is not taken for a proof.
    free = math.exp(candidate.log_tail) + max(candidate.tail_error, 4 * candidate.slack)
    p, factor = np.exp(pair.p_only), 0.0
    if len(p):
        cap = math.exp(candidate.log_cap + candidate.slack) if candidate.hidden != 0 else 1.0
        factor = _water_level(p, cap, p_tail, bucket, free)
        q = np.minimum(cap, factor * p)
        rest = max(bucket, factor * p_tail)
    else:
        q, rest = p, bucket + free
    kept = p > 0
    slopes = np.log(p[kept] / q[kept])
    value = float(np.sum(p[kept] * slopes)) - reference.slack * float(np.sum(p[kept] * np.abs(slopes + 1)))
    if p_tail > 0:
        slope = math.log(p_tail / rest)
        value += p_tail * slope - reference.tail_error * abs(slope + 1)
    return value


def _water_level(p: np.ndarray, cap: float, p_tail: float, bucket: float, free: float) -> float:
    """The factor f at which min(cap, f p) and max(bucket, f p_tail) together use the candidate's mass, never less."""
    low, high = 0.0, 1.0

    def used(factor: float) -> float:
        return float(np.minimum(cap, factor * p).sum()) + max(bucket, factor * p_tail)

    while used(high) < bucket + free and high < 1e300:
        low, high = high, high * 16
    for _ in range(80):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if used(middle) < bucket + free else (low, middle)
    return high


def _greatest(pair: _Pair, reference: Known, candidate: Known, floor: Floor | None) -> tuple[float, str]:
    """The most that the divergence can be, and what that stands on."""
    tail = math.exp(reference.log_tail)
    ends = (max(tail - reference.tail_error, 0.0), tail + reference.tail_error)  # linear between them
    if candidate.hidden == 0:
        worst = max(_fill_worst(pair.q_only, p_tail, ends[1], reference) for p_tail in ends)
        return pair.shared + worst, "the candidate's whole row is known"
    if floor is None:
        return math.inf, UNBOUNDED
    lowest = min(floor.log_probability, candidate.log_cap)
    terms = np.exp(pair.p_only) * (pair.p_only - lowest)
    named = float(np.sum(terms)) + 2 * reference.slack * float(np.sum(np.exp(pair.p_only) * (np.abs(pair.p_only - lowest) + 1)))
    worst_q = min(lowest, float(pair.q_only.min())) if len(pair.q_only) else lowest
    log_most = min(reference.log_cap + reference.slack, math.log(ends[1])) if ends[1] > 0 else 0.0
    return pair.shared + named + max(p_tail * (log_most - worst_q) for p_tail in ends), str(floor)


def _fill_worst(log_q: np.ndarray, p_tail: float, most: float, reference: Known) -> float:
    """The reference's hidden mass put, as densely as its cap allows, where the candidate has the least."""
    if p_tail <= 0 or not len(log_q):
        return 0.0
    cap = min(math.exp(reference.log_cap + reference.slack), most)
    count = min(math.ceil(p_tail / cap), len(log_q))
    lowest = np.partition(log_q, count - 1)[:count]
    masses = np.full(count, cap)
    masses[-1] = max(p_tail - cap * (count - 1), 1e-300)
    return float(np.sum(np.sort(masses)[::-1] * (math.log(cap) - np.sort(lowest))))


def _lower_of_logits(pair: _Pair, reference: Known) -> float:
    """Logits without their sum: what the shared entries alone settle, times the least mass that they can have."""
    if not len(pair.log_p):
        return 0.0
    p = np.exp(pair.log_p - pair.log_p.max())
    q = np.exp(pair.log_q - pair.log_q.max())
    mass = float(p.sum())
    conditional = float(np.sum(p / mass * (np.log(p / mass) - np.log(q / q.sum()))))
    if reference.normalized:
        return float(np.exp(pair.log_p).sum()) * conditional
    if reference.hidden is None:
        return 0.0
    top = pair.log_p.max()
    others = float(np.exp(pair.p_only - top).sum()) + reference.hidden * math.exp(reference.log_cap - top)
    return mass / (mass + others) * conditional


def ranked(known: Known) -> np.ndarray:
    """int64: up to ten ids, most probable first, ties to the lowest id."""
    return known.ids[np.argsort(-known.log_p, kind="stable")[:10]]


def _value(known: Known, token: int) -> float:
    at = int(np.searchsorted(known.ids, token))
    return float(known.log_p[at]) if 0 <= at < len(known.ids) and known.ids[at] == token else math.nan
