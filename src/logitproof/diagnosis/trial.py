"""The candidate's logits, and how far from them the reference is with one bug or another."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from logitproof import catalog
from logitproof.diagnosis.found import Mode, Mutant
from logitproof.errors import ContractError
from logitproof.reference.planted import Bugs, Planted
from logitproof.rows.distance import distances, rms
from logitproof.rows.top import is_top
from logitproof.rows.transform import bytes_swapped

SCREENED = 64
"""Positions of the first sequence on which every mutant is tried; the nearest are confirmed on everything."""
FLOAT32 = 20.0
"""Factor on what float32 alone moves a logit, within which two engines are one."""
SKETCHED = 192
"""Numbers a position that a difference of logits is kept as: random signs keep sums and lengths."""


class Trial:
    """One candidate on one planted reference. Everything is in logits, the mean difference of a row taken off."""

    def __init__(self, planted: Planted, candidate: Sequence[np.ndarray], mode: Mode) -> None:
        self.mode, self.planted = mode, planted
        self.candidate = [
            _known(rows, planted.vocabulary) if is_top(rows) else np.asarray(rows, np.float64) for rows in candidate
        ]
        self.whole = not any(is_top(rows) for rows in candidate)
        if not planted.sequences or len(planted.sequences) != len(self.candidate):
            raise ContractError(f"{len(self.candidate)} arrays of logits for {len(planted.sequences)} sequences")
        for ids, rows, given in zip(planted.sequences, self.candidate, candidate, strict=True):
            if not is_top(given) and rows.ndim == 2 and not np.isfinite(rows).all() and (swapped := bytes_swapped(given)):
                raise ContractError(f"logits are not finite: {swapped.text}", remedy=swapped.remedy)
            if rows.ndim != 2 or len(rows) != len(ids) or not (is_top(given) or np.isfinite(rows).all()):
                raise ContractError(f"logits of shape {rows.shape} for {len(ids)} tokens, or not finite")
        self._right: list[np.ndarray] | None = None
        self._signs: np.ndarray | None = None

    @property
    def right(self) -> list[np.ndarray]:
        """The plain reference's logits of every sequence, computed once."""
        if self._right is None:
            self._right = self.logits(())
        return self._right

    def distance(self, bugs: Bugs = (), *, short: bool = False) -> float:
        """RMS over all positions of the shift-free RMS difference from the candidate; infinite where not finite."""
        return rms(*self.by_position(bugs, short=short))

    def by_position(self, bugs: Bugs = (), *, short: bool = False) -> list[np.ndarray]:
        """That difference at every position, [T] a sequence."""
        logits = self.logits(bugs, short=short) if bugs or short else self.right
        return self._apart(logits, short)

    def screened(self, bugs: Bugs) -> tuple[float, np.ndarray]:
        """The distance on the screened positions, and a sketch [S, SKETCHED] of what the bugs change there."""
        wrong = self.logits(bugs, short=True)
        return rms(*self._apart(wrong, True)), self._sketch(wrong[0], self.right[0][:SCREENED])

    def wanted(self) -> np.ndarray:
        """The sketch of what a bug would have to change: the candidate's difference from the reference."""
        return self._sketch(self.candidate[0][:SCREENED], self.right[0][:SCREENED])

    def quiet(self) -> float:
        """What float32 alone moves a logit of this model, widened by `FLOAT32`."""
        ours, theirs = (self.planted.logits(cached=cached, beginning=SCREENED)[0] for cached in (False, True))
        return FLOAT32 * max(rms(distances(ours, theirs)), float(np.abs(ours).max()) * 2.0**-24)

    def rounding(self, bugs: Bugs = ()) -> float:
        """The RMS error that bfloat16 arithmetic makes in this model, with these bugs planted."""
        ours = self.logits(bugs, short=True)[0]
        with self.planted.rounded():
            theirs = self.logits(bugs, short=True)[0]
        return rms(distances(ours, theirs))

    def spread(self) -> float:
        """RMS of the candidate's own logits, each row's mean taken off: what there is to explain at all."""
        known = [~np.isnan(rows) for rows in self.candidate]
        return rms(*(distances(np.zeros_like(rows), rows, mask) for rows, mask in zip(self.candidate, known, strict=True)))

    def decisive(self, mutants: Sequence[Mutant]) -> tuple[tuple[int, int], ...]:
        """The five positions at which the mutants, planted together, explain most of the distance."""
        before, after = self.by_position(), self.by_position([(mutant.name, mutant.options) for mutant in mutants])
        gains = [
            (float(value), number, position)
            for number, (right, wrong) in enumerate(zip(before, after, strict=True))
            for position, value in enumerate(right - wrong)
        ]
        return tuple((number, position) for _, number, position in sorted(gains, reverse=True)[:5])

    def logits(self, bugs: Bugs, *, short: bool = False) -> list[np.ndarray]:
        """Only a bug of the cache is run through it, token by token: all others give the same in one pass."""
        cached = self.mode == "decode" and any(catalog.load("mutations", name).needs == "decode" for name, _ in bugs)
        return self.planted.logits(bugs, cached=cached, beginning=SCREENED if short else None)

    def _apart(self, logits: Sequence[np.ndarray], short: bool) -> list[np.ndarray]:
        wanted = [self.candidate[0][:SCREENED]] if short else self.candidate
        return [distances(ours, theirs, ~np.isnan(theirs)) for ours, theirs in zip(logits, wanted, strict=True)]

    def _sketch(self, wrong: np.ndarray, right: np.ndarray) -> np.ndarray:
        if self._signs is None:
            signs = np.random.default_rng(0).integers(0, 2, (right.shape[1], SKETCHED)) * 2 - 1
            self._signs = signs.astype(np.float32) / np.float32(SKETCHED**0.5)
        delta = np.nan_to_num(wrong - right, nan=0.0, posinf=0.0, neginf=0.0)
        delta -= delta.mean(axis=1, keepdims=True)
        return np.asarray(delta.astype(np.float32) @ self._signs / np.float32(right.shape[1] ** 0.5))


def _known(rows: np.ndarray, vocabulary: int) -> np.ndarray:
    """Log-probabilities [T, V], NaN where none is known; raises ContractError where nothing could be told by them."""
    found = np.full((len(rows), vocabulary), np.nan)
    for row, entries in zip(found, rows, strict=True):
        kept = entries[entries["id"] >= 0]
        row[kept["id"]] = kept["log_probability"]
    if (np.isfinite(found).sum(axis=1) < 2).all():
        text = "no position has the log-probabilities of two tokens, so no bug could be told from another"
        raise ContractError(text, remedy="ask the engine for more log-probabilities, or for whole rows")
    return found
