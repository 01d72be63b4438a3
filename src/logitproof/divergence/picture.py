"""The picture that people who quantize publish: size on disk against KL divergence, lower and further left is better."""

from __future__ import annotations

from collections.abc import Sequence

from logitproof.divergence.measure import Measured
from logitproof.documents.section import Chart, Series

FLOOR = 1e-12
"""Nats below which everything is drawn alike: a logarithm of 0 has no place."""


def picture(candidates: Sequence[Measured]) -> Chart:
    """A point a candidate that was measured, with its 95 % interval over windows; the vertical axis is logarithmic."""
    return Chart(
        "points",
        tuple(_series(candidate) for candidate in candidates),
        "weights on disk, MB",
        "mean KLD, nats",
        _alt(candidates),
        "size against KL divergence",
        logarithmic=True,
    )


def _series(candidate: Measured) -> Series:
    mean, megabytes = candidate.figures["kl_mean"], candidate.bytes / 1e6
    heights = sorted({max(value, FLOOR) for value in (*(mean.interval or ()), mean.value)})
    return Series(candidate.name.rpartition("/")[2], tuple((megabytes, height) for height in heights))


def _alt(candidates: Sequence[Measured]) -> str:
    listed = "; ".join(
        f"{candidate.name} {candidate.bytes / 1e6:.1f} MB {candidate.figures['kl_mean'].value:.3g} nats"
        for candidate in candidates
    )
    return f"Weights on disk against mean KLD, on a logarithmic scale, with 95 % intervals over windows: {listed}."
