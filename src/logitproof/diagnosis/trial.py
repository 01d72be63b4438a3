"""The candidate's logits, and how far from them the reference is with one bug or another."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np

from logitproof import catalog
from logitproof.contract.arithmetic import Arithmetic
from logitproof.diagnosis.found import Mode, Mutant
from logitproof.errors import ContractError
from logitproof.reference.planted import Bugs, Planted
from logitproof.rows.distance import distances, rms
from logitproof.rows.top import is_top
from logitproof.rows.transform import bytes_swapped

SCREENED = 64
"""Positions of the first sequence on which every mutant is tried; the nearest are confirmed on everything."""
SMALL = 2e7
"""Weights up to which every mutant is tried on all of them."""
GLANCED = (12, 24, 48)
"""Positions at which mutants of a larger model are tried: the fewest at which the candidate differs as on `SCREENED`."""
AS_ELSEWHERE = 0.5
"""How large the difference on so few positions must be, over that on `SCREENED`."""
FLOAT32 = 20.0
"""Factor on what float32 alone moves a logit, within which two engines are one."""
SKETCHED = 192
"""Numbers a position that a difference of logits is kept as: sums of entries with random signs, which keep sums and lengths."""


class Trial:
    """One candidate on one planted reference. Everything is in logits, the mean difference of a row taken off."""

    def __init__(self, planted: Planted, candidate: Sequence[np.ndarray], mode: Mode) -> None:
        self.mode, self.planted = mode, planted
        with np.errstate(invalid="ignore"):  # what is not finite is refused below, whatever kind of NaN it is
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
        self._apart_by: dict[str, list[np.ndarray]] = {}
        self._wanted: np.ndarray | None = None

    @property
    def right(self) -> list[np.ndarray]:
        """The plain reference's logits of every sequence."""
        return self.planted.right

    @functools.cached_property
    def glanced(self) -> int:
        """Positions of the first sequence on which mutants are tried: all that are screened, or fewer of a large model."""
        whole = self._apart_at(self.right, SCREENED)
        enough = AS_ELSEWHERE * rms(whole)
        few = GLANCED if self.planted.weights > SMALL else ()
        return next((count for count in few if rms(whole[:count]) >= enough), SCREENED)

    @functools.cached_property
    def _as_screened(self) -> float:
        """How much farther the candidate is from the reference on the screened positions than on those glanced at."""
        whole = self._apart_at(self.right, SCREENED)
        few = rms(whole[: self.glanced])
        return rms(whole) / few if self.glanced < SCREENED and few else 1.0

    def distance(self, bugs: Bugs = (), *, short: bool = False) -> float:
        """RMS over all positions of the shift-free RMS difference from the candidate; infinite where not finite."""
        if not short:
            return rms(*self.by_position(bugs))
        return rms(self._apart_at(self.logits(bugs, beginning=self.glanced), self.glanced))

    def by_position(self, bugs: Bugs = ()) -> list[np.ndarray]:
        """That difference at every position, [T] a sequence; bugs that were asked for before are not planted again."""
        key = repr([(name, sorted(options.items())) for name, options in bugs])
        if key not in self._apart_by:
            logits = self.logits(bugs) if bugs else self.right
            self._apart_by[key] = [
                distances(rows, candidate, self._entries(candidate))
                for rows, candidate in zip(logits, self.candidate, strict=True)
            ]
        return self._apart_by[key]

    def screened(self, bugs: Bugs) -> tuple[float, np.ndarray]:
        """The distance on the screened positions, and a sketch [S, SKETCHED] of what the bugs change on those glanced at.

        Where fewer positions are glanced at than are screened, the distance is told as if all were like those.
        """
        glance = self.logits(bugs, beginning=self.glanced)
        return self.screened_as(glance), self.sketched(glance)

    def screened_as(self, glance: Sequence[np.ndarray]) -> float:
        """The same distance of logits of the positions glanced at, or of more."""
        return rms(self._apart_at(glance, self.glanced)) * self._as_screened

    def sketched(self, glance: Sequence[np.ndarray]) -> np.ndarray:
        """The same sketch; of every trial on one reference that glances at as many positions."""
        return _sketch(glance[0][: self.glanced], self.right[0][: self.glanced])

    def wanted(self) -> np.ndarray:
        """The sketch of what a bug would have to change: the candidate's difference from the reference."""
        if self._wanted is None:
            self._wanted = _sketch(self.candidate[0][: self.glanced], self.right[0][: self.glanced])
        return self._wanted

    def sketch_of_all(self, bugs: Bugs | None = None) -> np.ndarray:
        """The sketches [N, SKETCHED] of what bugs change at all positions of all sequences; of the candidate's difference
        where none are given.
        """
        wrong = self.candidate if bugs is None else self.logits(bugs)
        return np.concatenate([_sketch(rows, right) for rows, right in zip(wrong, self.right, strict=True)])

    def _entries(self, rows: np.ndarray) -> np.ndarray | None:
        """Which entries of a candidate's rows are known; None where all are, which is quicker."""
        return None if self.whole else ~np.isnan(rows)

    def quiet(self) -> float:
        """What float32 alone moves a logit of this model, widened by `FLOAT32`."""
        prefill, decode = (self.planted.logits(cached=cached, beginning=self.glanced)[0] for cached in (False, True))
        return FLOAT32 * max(rms(distances(prefill, decode)), float(np.abs(prefill).max()) * 2.0**-24)

    def rounding(self, bugs: Bugs = ()) -> float:
        """The RMS error that bfloat16 arithmetic makes in this model, with these bugs planted."""
        exact = self.logits(bugs, beginning=self.glanced)[0]
        with self.planted.rounded():
            rounded = self.logits(bugs, beginning=self.glanced)[0]
        return rms(distances(exact, rounded))

    def imitated(self, arithmetic: Arithmetic, bugs: Bugs = ()) -> float:
        """The RMS error that an arithmetic makes in this model, with these bugs planted, on the screened positions.

        Raises Refusal of an arithmetic that is not known.
        """
        exact = self.logits(bugs, beginning=SCREENED)[0] if bugs else self.right[0][:SCREENED]
        with self.planted.imitating(arithmetic):
            noisy = self.logits(bugs, beginning=len(exact))[0]
        return rms(distances(exact, noisy))

    def spread(self) -> float:
        """RMS of the candidate's own logits, each row's mean taken off: what there is to explain at all."""
        return rms(*(distances(np.zeros_like(rows), rows, self._entries(rows)) for rows in self.candidate))

    def decisive(self, mutants: Sequence[Mutant]) -> tuple[tuple[int, int], ...]:
        """The five positions at which the mutants, planted together, explain most of the distance."""
        before, after = self.by_position(), self.by_position([(mutant.name, mutant.options) for mutant in mutants])
        gains = [
            (float(value), number, position)
            for number, (right, wrong) in enumerate(zip(before, after, strict=True))
            for position, value in enumerate(right - wrong)
        ]
        return tuple((number, position) for _, number, position in sorted(gains, reverse=True)[:5])

    def logits(self, bugs: Bugs, *, beginning: int | None = None) -> list[np.ndarray]:
        """Only a bug of the cache is run through it, token by token: all others give the same in one pass."""
        return self.planted.logits(bugs, cached=self.goes_through_the_cache(bugs), beginning=beginning)

    def goes_through_the_cache(self, bugs: Bugs) -> bool:
        """Whether some of these bugs show in this mode only where tokens come one by one."""
        return self.mode == "decode" and any(catalog.load("mutations", name).needs == "decode" for name, _ in bugs)

    def _apart_at(self, logits: Sequence[np.ndarray], count: int) -> np.ndarray:
        """The differences at the first so many positions of the first sequence."""
        rows, candidate_rows = logits[0][:count], self.candidate[0][:count]
        return distances(rows, candidate_rows, self._entries(candidate_rows))


def _sketch(wrong: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Sums [S, SKETCHED] of differences [S, V], each of every `SKETCHED`th entry, with random signs that stay the same."""
    delta = wrong - right
    if not np.isfinite(delta).all():
        delta = np.nan_to_num(delta, nan=0.0, posinf=0.0, neginf=0.0)
    delta -= delta.mean(axis=1, keepdims=True)
    rows, vocabulary = delta.shape
    count = min(SKETCHED, vocabulary)
    folded = vocabulary // count * count
    signed = delta.astype(np.float32) * _signs(vocabulary)
    sums = signed[:, :folded].reshape(rows, -1, count).sum(axis=1)
    sums[:, : vocabulary - folded] += signed[:, folded:]
    return np.asarray(sums / vocabulary**0.5, np.float32)


@functools.lru_cache(maxsize=4)
def _signs(vocabulary: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 2, vocabulary, np.int8) * np.float32(2) - np.float32(1)


def _known(rows: np.ndarray, vocabulary: int) -> np.ndarray:
    """Log-probabilities [T, V], NaN where none is known; raises ContractError where nothing could be told by them."""
    log_probabilities = np.full((len(rows), vocabulary), np.nan)
    for row, entries in zip(log_probabilities, rows, strict=True):
        kept = entries[entries["id"] >= 0]
        row[kept["id"]] = kept["log_probability"]
    if (np.isfinite(log_probabilities).sum(axis=1) < 2).all():
        text = "no position has the log-probabilities of two tokens, so no bug could be told from another"
        raise ContractError(text, remedy="ask the engine for more log-probabilities, or for whole rows")
    return log_probabilities
