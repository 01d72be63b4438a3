"""From repetitions under noise to bands: what a healthy engine of an arithmetic gives, position by position.

Each repetition is the reference with the rounding errors of the candidate's arithmetic, compared with the reference
under the rounding errors of its own. The band of a position is a quantile of what the repetitions gave there; the bound
of a gate is what its statistic would not pass once in a thousand healthy runs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from logitproof import catalog
from logitproof.bands.band import Band
from logitproof.comparison.chance import student
from logitproof.comparison.summary import STATISTICS
from logitproof.errors import ContractError
from logitproof.files.atomic import content_key

FORMAT = 2
METRIC = "rms_delta_logit"
QUANTILE = 0.999
SIGMAS = 3.0902
"""Standard deviations of a normal distribution below which `QUANTILE` of it lies."""
METHOD = 1.25
"""Factor by which the method may be wrong about the size of the noise: see docs/bands.md for what was measured."""
WRONG = 2.0
"""Factor on the band above which no position is noise: the furthest that a predicted size has been from an observed one."""
CLUSTERED = 4.0
"""Factor on the variance of counts: neighbouring positions leave the band together."""
NO_NOISE = "the repetitions hold no noise, or no numbers, so there is no band"
LINEAR = ("rms_delta_logit", "max_delta_logit", "delta_p", "total_variation", "label_logprob_delta")
"""Metrics that grow with the noise itself, not with its square."""


@dataclass(frozen=True)
class Repeated:
    """One sequence of T tokens under noise: every metric as float [N, T].

    In `fixed` the experts are those of the reference, in `free` those that the noise chose; `flipped` [N, T] marks where
    these are others. A model without experts has the same in both.
    """

    fixed: Mapping[str, np.ndarray]
    free: Mapping[str, np.ndarray]
    flipped: np.ndarray


@dataclass(frozen=True)
class Calibration:
    """All sequences of one pair of arithmetics and weights, by the sha256 of their tokens; `about` is the basis."""

    key: str
    about: Mapping[str, Any]
    sequences: Mapping[str, Repeated] = field(repr=False)

    def find(self, token_ids: Sequence[int]) -> Repeated | None:
        """What was repeated of these tokens, or of a longer sequence that begins with them under its own name."""
        return self.sequences.get(tokens_sha256(token_ids))

    @property
    def basis(self) -> str:
        """One sentence that says what the band was calculated from."""
        about = self.about
        quantization = f"; quantization error {about['quantization']:.3g} RMS" if about.get("quantization") else ""
        word = f"; {about['word']}" if about.get("word") else ""
        flips = f"; experts flip at {about['flips']:.2%} of positions" if about.get("flips") else ""
        return (
            f"calculated: {QUANTILE:.1%} of {about['runs']} runs with the rounding of {about['candidate']} "
            f"({about['predicted']:.3g} logits RMS), the reference in {about['reference']}, whose own spread is "
            f"{about['spread']:.2f} of its rounding{quantization}{flips}{word}"
        )

    @property
    def is_of_one_arithmetic(self) -> bool:
        """Whether both sides round alike, so that they may agree bit for bit."""
        return bool(self.about["candidate"] == self.about["reference"])


def tokens_sha256(token_ids: Sequence[int]) -> str:
    """The name of a sequence in a calibration."""
    return content_key({"token_ids": list(token_ids)})


def calibration_key(facts: Mapping[str, str]) -> str:
    """The name of a calibration: the hash of weights and arithmetics of both sides."""
    return content_key({"format": FORMAT, **facts})


def scale(values: np.ndarray) -> np.ndarray:
    """RMS over the repetitions [N, T] at each position."""
    return np.asarray(np.sqrt(np.mean(np.asarray(values, np.float64) ** 2, axis=0)))


def studentized_quantile(values: Iterable[np.ndarray], quantile: float = QUANTILE) -> float:
    """The quantile, pooled over positions, of a repetition over the RMS of the others at its position; [N, T] each.

    Leaving each out of its own scale is what makes the quantile hold for one more run that was not among them.
    """
    ratios = []
    for repetitions in values:
        squares = np.asarray(repetitions, np.float64) ** 2
        if len(squares) < 2:
            raise ContractError("a band needs at least two repetitions", remedy="raise --runs")
        if not np.isfinite(squares).all():
            raise ContractError(NO_NOISE)
        others = np.sqrt((squares.sum(0) - squares) / (len(squares) - 1))
        kept = others > 0
        ratios.append((np.sqrt(squares)[kept] / others[kept]).ravel())
    flat = np.concatenate(ratios) if ratios else np.empty(0)
    if not flat.size:
        raise ContractError(NO_NOISE)
    return float(np.quantile(flat, quantile))


def one_more(values: Sequence[float]) -> float:
    """What one more value of the same kind will not exceed, with probability `QUANTILE` (Student's t, N - 1 degrees)."""
    numbers = np.asarray(values, np.float64)
    if len(numbers) < 2:
        raise ContractError("a bound needs at least two repetitions", remedy="raise --runs")
    return float(
        numbers.mean() + student(len(numbers) - 1, QUANTILE, SIGMAS) * numbers.std(ddof=1) * math.sqrt(1 + 1 / len(numbers))
    )


@dataclass(frozen=True)
class CalculatedBand:
    """The band of a cell, with its own tolerance at every position of every sequence.

    `match` is by the sha256 of a sequence's tokens, [T] logits. `beyond` is the share of all positions that may lie outside
    of it, and `allow` the share that may be WRONG: more than chance only where experts flip.
    """

    match: Mapping[str, np.ndarray]
    allow: float
    beyond: float
    basis: str
    expected: Mapping[str, np.ndarray] = field(default_factory=dict)
    """[T] logits: the RMS error that the noise makes at each position, of which `match` is a quantile"""

    def along(self, token_ids: Sequence[int], start: int, count: int) -> list[Band]:
        """The band of `count` positions of a sequence, from `start`; nothing of one that was not calibrated."""
        matches = self.match.get(tokens_sha256(token_ids), np.empty(0))[start : start + count]
        return [Band(float(match), WRONG * float(match), self.allow, self.basis, self.beyond) for match in matches]

    @property
    def summary(self) -> Band:
        """The median over all positions, for a report."""
        flat = np.concatenate(list(self.match.values()))
        return Band(float(np.median(flat)), WRONG * float(np.median(flat)), self.allow, self.basis, self.beyond)


def calculated_band(calibration: Calibration, sequences: Iterable[Sequence[int]] | None = None) -> CalculatedBand:
    """The band of every position, from all repetitions; the shares are those of the `sequences` that a run has."""
    factor = METHOD * studentized_quantile([repeated.fixed[METRIC] for repeated in calibration.sequences.values()])
    expected = {name: scale(repeated.fixed[METRIC]) for name, repeated in calibration.sequences.items()}
    match = {name: factor * values for name, values in expected.items()}
    names = list(match) if sequences is None else [tokens_sha256(tokens) for tokens in sequences]
    chosen = [name for name in names if name in match] or list(match)
    total = sum(len(match[name]) for name in chosen)
    beyond, allow = _by_chance(total, 1 - QUANTILE) / total, 0.0
    if any(repeated.flipped.any() for repeated in calibration.sequences.values()):
        beyond += _share_outside(calibration, match, chosen, 1.0)
        allow = _share_outside(calibration, match, chosen, WRONG) + 1 / total
    return CalculatedBand(match, min(allow, 0.99), min(beyond, 1.0), calibration.basis, expected)


def _share_outside(calibration: Calibration, match: Mapping[str, np.ndarray], names: Sequence[str], limit: float) -> float:
    """The share of positions above `limit` times the band that one more run with free experts will not exceed."""
    outside = [(calibration.sequences[name].free[METRIC] > limit * match[name]).sum(axis=1) for name in names]
    counts = np.sum(outside, axis=0)
    total = sum(len(match[name]) for name in names)
    return min(max(one_more(list(counts / total)), 0.0), 1.0)


def _by_chance(total: int, share: float) -> int:
    """How many of `total` positions leave the band at most, if each does with this probability."""
    return math.ceil(total * share + SIGMAS * math.sqrt(CLUSTERED * total * share)) + 1


def gate_bound(
    calibration: Calibration,
    metric: str,
    statistic: str,
    sequences: Sequence[tuple[Sequence[int], Sequence[int]]],
    *,
    at_most: bool,
) -> float:
    """The bound that one more healthy run keeps, on a statistic over chosen positions of (tokens, positions).

    Errors are measured from 0 for `at_most` and from 1 for `at_least`. They may be larger by `METHOD` where the metric grows
    with the noise, else by its square. The bound lies where the metric can lie: a share is never less than 0.
    Raises ContractError of a metric that no repetition has.
    """
    statistics: list[float] = []
    chosen = [(calibration.find(tokens), list(positions)) for tokens, positions in sequences]
    for number in range(int(calibration.about["runs"])):
        values = []
        for repeated, positions in chosen:
            if repeated is None or metric not in repeated.free:
                raise ContractError(
                    f"{metric} has no calculated bound: no repetition measures it",
                    remedy="run `logitproof calibrate` again, or give a number",
                )
            values.append(np.asarray(repeated.free[metric][number], np.float64)[positions])
        flat = np.concatenate(values)
        statistics.append(STATISTICS[statistic](flat[~np.isnan(flat)]))
    factor = method_factor(metric)
    bound = factor * one_more(statistics) if at_most else 1 - factor * one_more([1 - value for value in statistics])
    kind = catalog.load("metrics", metric)
    return float(min(max(bound, kind.least), kind.greatest))


def method_factor(metric: str) -> float:
    """By how much the method may be wrong about a metric: one that does not grow with the noise grows with its square."""
    return METHOD if metric in LINEAR else METHOD**2
