"""The figures that `llama-perplexity --kl-divergence` prints, by its definitions, and an interval over windows beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from logitproof.comparison.chance import bootstrap_ratio
from logitproof.divergence.scores import Scores, joined

FEW = 10
"""Up to so many positions the tool states no error."""
KL_SHARES = (0.999, 0.99, 0.95, 0.9, 0.1, 0.05, 0.01, 0.001)
DELTA_SHARES = (0.999, 0.99, 0.95, 0.9, 0.75, 0.25, 0.1, 0.05, 0.01, 0.001)


@dataclass(frozen=True)
class Figure:
    """One statistic: its value, the tool's standard error, which takes positions for independent, and our 95 % interval.

    The interval is a bootstrap over whole windows; None where there is one window, or of a figure that is no mean.
    """

    value: float
    error: float | None = None
    interval: tuple[float, float] | None = None


def figures(windows: Sequence[Scores], seed: int = 0) -> dict[str, Figure]:
    """Every statistic by its name in `kl.json`; `windows` holds one entry a window, and at least one."""
    return _perplexities(windows, seed) | _divergences(windows, seed) | _probabilities(windows, seed)


def _perplexities(windows: Sequence[Scores], seed: int) -> dict[str, Figure]:
    """Perplexities and their ratio; errors by propagation, covariance included."""
    scores = joined(windows)
    nll, base = _mean(scores.nll), _mean(scores.nll_base)
    error, error_base = _error(scores.nll), _error(scores.nll_base)
    covariance = _covariance(scores.nll, scores.nll_base)
    log_ratio = nll - base
    of_ratio = float(np.sqrt(max(error**2 + error_base**2 - 2 * covariance, 0.0)))
    ppl, ppl_base = float(np.exp(nll)), float(np.exp(base))
    of_difference = (ppl * error) ** 2 + (ppl_base * error_base) ** 2 - 2 * ppl * ppl_base * covariance
    inside = _interval([part.nll - part.nll_base for part in windows], seed)
    return {
        "ppl": Figure(ppl, ppl * error, _exponential(_interval([part.nll for part in windows], seed))),
        "ppl_base": Figure(ppl_base, ppl_base * error_base, _exponential(_interval([part.nll_base for part in windows], seed))),
        "correlation": Figure(covariance / (error * error_base) if error * error_base > 0 else float("nan")),
        "log_ppl_ratio": Figure(log_ratio, of_ratio, inside),
        "ppl_ratio": Figure(float(np.exp(log_ratio)), float(np.exp(log_ratio)) * of_ratio, _exponential(inside)),
        "ppl_difference": Figure(ppl - ppl_base, float(np.sqrt(max(of_difference, 0.0)))),
    }


def _divergences(windows: Sequence[Scores], seed: int) -> dict[str, Figure]:
    values = joined(windows).kl_divergence
    mean = Figure(_mean(values), _error(values), _interval([part.kl_divergence for part in windows], seed))
    return {"kl_mean": mean} | _spread("kl", values, KL_SHARES)


def _probabilities(windows: Sequence[Scores], seed: int) -> dict[str, Figure]:
    """Differences of the next token's probability, and how often both sides prefer the same token; shares, not percent."""
    scores = joined(windows)
    delta, top = scores.delta_p, scores.same_top.astype(np.float64)
    squares = (delta**2).astype(np.float64)
    rms, share = float(np.sqrt(_mean(squares))), _mean(top)
    inside = _interval([part.delta_p**2 for part in windows], seed)
    share_error = float(np.sqrt(share * (1 - share) / (len(top) - 1))) if len(top) > 1 else 0.0
    mean = Figure(_mean(delta), _error(delta), _interval([part.delta_p for part in windows], seed))
    root = (float(np.sqrt(inside[0])), float(np.sqrt(inside[1]))) if inside else None
    return {
        "delta_p_mean": mean,
        **_spread("delta_p", delta, DELTA_SHARES),
        "delta_p_rms": Figure(rms, 0.5 / rms * _error(squares) if rms > 0 else 0.0, root),
        "same_top": Figure(share, share_error, _interval([part.same_top.astype(np.float64) for part in windows], seed)),
    }


def _spread(name: str, values: np.ndarray, shares: Sequence[float]) -> dict[str, Figure]:
    """Largest to smallest; the median stands where it belongs among the percentiles."""
    ordered = np.sort(values.astype(np.float32))
    named = [(f"p{100 * share:g}", _percentile(ordered, share)) for share in shares]
    half = sum(share > 0.5 for share in shares)
    ends = (("max", float(ordered[-1])), ("min", float(ordered[0])))
    listed = [ends[0], *named[:half], ("median", float(np.median(ordered))), *named[half:], ends[1]]
    return {f"{name}_{suffix}": Figure(value) for suffix, value in listed}


def _percentile(ordered: np.ndarray, share: float) -> float:
    """Between the two nearest of float32 values in order; the rank is float32 too, as the tool's, or tails differ in print."""
    rank = np.float32(share) * np.float32(len(ordered) - 1)
    low = int(rank)
    part = np.float32(rank - np.float32(low))
    return float((np.float32(1) - part) * ordered[low] + part * ordered[min(low + 1, len(ordered) - 1)])


def _mean(values: np.ndarray) -> float:
    return float(values.mean(dtype=np.float64))


def _error(values: np.ndarray) -> float:
    """Standard error of the mean of independent values; 0 of up to `FEW`."""
    variance = _mean(values**2) - _mean(values) ** 2
    return float(np.sqrt(variance / (len(values) - 1))) if variance > 0 and len(values) > FEW else 0.0


def _covariance(first: np.ndarray, second: np.ndarray) -> float:
    """Covariance of the two means."""
    if len(first) < FEW:
        return 0.0
    return (_mean(first * second) - _mean(first) * _mean(second)) / (len(first) - 1)


def _interval(windows: Sequence[np.ndarray], seed: int) -> tuple[float, float] | None:
    if len(windows) < 2:
        return None
    sums, counts = np.array([part.sum(dtype=np.float64) for part in windows]), np.array([len(part) for part in windows])
    return bootstrap_ratio(sums, counts, seed=seed)


def _exponential(interval: tuple[float, float] | None) -> tuple[float, float] | None:
    return (float(np.exp(interval[0])), float(np.exp(interval[1]))) if interval else None
