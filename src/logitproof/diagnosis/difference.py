"""The difference of a candidate from its reference, as the tests of its shape read it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from logitproof.diagnosis.found import Mode
from logitproof.rows.distance import distances, rms


@dataclass(frozen=True)
class Difference:
    """Logits float64 [T, V] of both sides, by sequence; NaN of a candidate is an entry that is not known.

    `limit` is the RMS in logits up to which a position is noise. `other` are the candidate's rows in the other mode, `head`
    the reference's [V, E] where logits are its product with a hidden state.
    """

    sequences: tuple[tuple[int, ...], ...]
    right: tuple[np.ndarray, ...]
    candidate: tuple[np.ndarray, ...]
    mode: Mode
    limit: float
    other: tuple[np.ndarray, ...] = ()
    head: np.ndarray | None = None

    @property
    def whole(self) -> bool:
        """Whether every entry of every row is known."""
        return all(bool(np.isfinite(rows).all()) for rows in self.candidate)

    def by_position(self) -> list[np.ndarray]:
        """RMS difference at every position, [T] a sequence."""
        pairs = zip(self.right, self.candidate, strict=True)
        return [distances(right_rows, candidate_rows, ~np.isnan(candidate_rows)) for right_rows, candidate_rows in pairs]

    def stacked(self) -> tuple[np.ndarray, np.ndarray]:
        """All rows of both sides, each row's mean taken off."""
        right, candidate = np.concatenate(self.right), np.concatenate(self.candidate)
        return right - right.mean(axis=1, keepdims=True), candidate - candidate.mean(axis=1, keepdims=True)

    def left(self, right: np.ndarray, candidate: np.ndarray) -> float:
        """RMS of what is left between rows."""
        return rms(distances(right, candidate))
