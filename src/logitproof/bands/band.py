"""A band: how far two healthy engines may differ at a position, and where that number comes from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

PositionStatus = Literal["MATCH", "DRIFT", "TIE-FLIP", "WRONG", "NOT-MEASURED"]


TIE_SIGMAS = 2.0
"""A flip is a tie when the margin is within this many standard deviations of the difference of two errors."""


@dataclass(frozen=True)
class Band:
    """A tolerance on the RMS logit difference after shift removal, in logits, with its provenance.

    Inside `match` a position is noise; above `wrong` no rounding explains it; between them it drifts.
    The error of a *difference* of two logits is √2 times that of one, so a flipped argmax is a tie where
    the reference's margin is at most `TIE_SIGMAS`·√2·match. `allow` is the share of positions that may
    be WRONG all the same (a mixture of experts flips its routing now and then), `beyond` the share that may lie outside
    of `match`: where more do, the noise is larger than it should be.
    """

    match: float
    """RMS logit difference up to which a position is noise"""
    wrong: float
    """RMS logit difference above which a position is WRONG"""
    allow: float
    """share of positions that may be WRONG all the same"""
    basis: str
    beyond: float = 1.0
    """share of positions that may lie outside of match"""

    @property
    def tie_margin(self) -> float:
        """The largest margin, in logits, at which a flipped argmax is a tie."""
        return TIE_SIGMAS * 2**0.5 * self.match

    @property
    def summary(self) -> Band:
        """The band itself: it is the same everywhere."""
        return self

    def along(self, token_ids: Sequence[int], start: int, count: int) -> list[Band]:
        """The band of `count` positions of a sequence, from `start`."""
        return [self] * count

    def status(self, rms_delta_logit: float, same_top1: bool, regret: float) -> PositionStatus:
        """Verdict on one position; a NaN is NOT-MEASURED, never a match.

        `regret` is how far, in the reference's own logits, the candidate's argmax lies under the
        reference's (nats and logits are the same here: a difference of two log-probabilities). Beyond a tie it is WRONG
        however near the rest may be, so that an engine which gives its best tokens only is judged by them.
        """
        if not regret >= 0.0:
            return "NOT-MEASURED"
        if not same_top1 and regret > self.tie_margin:
            return "WRONG"
        if not rms_delta_logit >= 0.0:
            return "NOT-MEASURED"
        if not rms_delta_logit <= self.wrong:
            return "WRONG"
        if not same_top1:
            return "TIE-FLIP"
        return "MATCH" if rms_delta_logit <= self.match else "DRIFT"
