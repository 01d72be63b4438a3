"""The picture that people who quantize publish: size on disk against KL divergence, lower and further left is better."""

from __future__ import annotations

from collections.abc import Sequence

from logitproof.divergence.measure import Measured
from logitproof.documents.section import Chart, Series


def picture(candidates: Sequence[Measured]) -> Chart:
    """One point a candidate that was measured; both axes are logarithmic, so that a mean of exactly 0 is in words alone."""
    series = tuple(
        Series(candidate.name.rpartition("/")[2], ((candidate.bytes / 1e6, candidate.figures["kl_mean"].value),))
        for candidate in candidates
    )
    across, upwards = "weights on disk, MB", "mean KLD, nats"
    return Chart("points", series, across, upwards, _alt(candidates), "size against KL divergence", logarithmic=True)


def _alt(candidates: Sequence[Measured]) -> str:
    listed = "; ".join(
        f"{candidate.name} {candidate.bytes / 1e6:.1f} MB {candidate.figures['kl_mean'].value:.3g} nats"
        for candidate in candidates
    )
    return f"Weights on disk against mean KLD, both on logarithmic scales: {listed}."
