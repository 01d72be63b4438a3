"""Repetitions under noise: both arithmetics of a cell on its tokens, many times, and the calibration that comes of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from logitproof.bands.calculated import METRIC, Calibration, Repeated, scale, tokens_sha256
from logitproof.comparison.compare import Comparison, compare
from logitproof.errors import EngineError
from logitproof.rows.distance import distances, rms
from logitproof.runs.calibrations import Sides

if TYPE_CHECKING:
    from logitproof.reference.predict import Predictor

ROUNDINGS = 2
"""Runs that say how large the reference's rounding is: each is a mean over all logits of all positions."""
LEFT_OUT = ("position", "label", "margin", "margin_probability")
"""Columns that say nothing of how far two engines are apart."""


def calibration_of(
    predictors: tuple[Predictor, Predictor],
    sides: Sides,
    sequences: Sequence[tuple[int, ...]],
    measured: float | None,
    repetitions: tuple[int, int],
    key: str,
) -> Calibration:
    """All sequences under noise, with what the calibration rests on; `predictors` are those of both sides' weights.

    `measured` is the RMS logit difference of the reference from itself, or None; `repetitions` are runs and seed.
    """
    (truth, own), (runs, seed) = predictors, repetitions
    rounding = _reference_rounding(truth, sides, sequences[0], runs, seed)
    # two runs of one arithmetic are apart by √2 of what each is from the truth
    spread = max(1.0, measured / (2**0.5 * rounding)) if measured and rounding else 1.0
    by_sequence = {tokens_sha256(ids): repeat(truth, own, sides, ids, runs, seed, spread) for ids in sequences}
    about = {
        "reference": str(sides.reference),
        "candidate": str(sides.candidate),
        "runs": runs,
        "seed": seed,
        "predicted": rms(*(scale(repeated.fixed[METRIC]) for repeated in by_sequence.values())),
        "rounding": rounding,
        "measured_spread": measured,
        "spread": spread,
        "quantization": 0.0 if truth is own else rms(*(_apart(truth, own, ids) for ids in sequences)),
        "flips": float(np.mean(np.concatenate([repeated.flipped.ravel() for repeated in by_sequence.values()]))),
    }
    return Calibration(key, about, by_sequence)


def repeat(
    truth: Predictor, own: Predictor, sides: Sides, token_ids: Sequence[int], runs: int, seed: int, spread: float = 1.0
) -> Repeated:
    """Both arithmetics `runs` times on one sequence; the reference's errors are `spread` times those of its rounding."""
    exact = truth.exact(token_ids)
    labels = np.array([*token_ids[1:], -1], np.int64)

    def once(number: int, free: bool) -> tuple[dict[str, np.ndarray], np.ndarray]:
        noise = 2 * (seed * runs + number)
        reference = truth.noisy(token_ids, sides.reference, noise, free=free)
        candidate = own.noisy(token_ids, sides.candidate, noise + 1, free=free)
        rows = compare(exact + spread * (reference.logits - exact), candidate.logits, labels=labels)
        return _columns(rows), reference.flipped | candidate.flipped

    fixed = _stacked([once(number, False)[0] for number in range(runs)])
    if not own.routes:
        return Repeated(fixed, fixed, np.zeros((runs, len(token_ids)), bool))
    passes = [once(number, True) for number in range(runs)]
    return Repeated(fixed, _stacked([rows for rows, _ in passes]), np.array([flipped for _, flipped in passes]))


def _columns(comparison: Comparison) -> dict[str, np.ndarray]:
    if comparison.nonfinite.size:
        raise EngineError("a repetition under noise is not finite", remedy="this arithmetic overflows in this model")
    return {name: values for name, values in comparison.metrics.items() if name not in LEFT_OUT}


def _stacked(rows: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.array([row[name] for row in rows], np.float64) for name in rows[0]}


def _reference_rounding(truth: Predictor, sides: Sides, token_ids: Sequence[int], runs: int, seed: int) -> float:
    exact = truth.exact(token_ids)
    numbers = range(min(runs, ROUNDINGS))
    return rms(*(distances(exact, truth.noisy(token_ids, sides.reference, seed + number).logits) for number in numbers))


def _apart(truth: Predictor, own: Predictor, token_ids: Sequence[int]) -> np.ndarray:
    return distances(truth.exact(token_ids), own.exact(token_ids))
