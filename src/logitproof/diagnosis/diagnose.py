"""Names the bug: which known mutation of the reference gives the candidate's logits.

Every applicable mutation is planted in the reference, one after another, and its logits are compared with the
candidate's. Distance is the RMS over positions of the RMS logit difference of a position, the mean difference taken off.
torch is imported by the first diagnosis, never before.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from logitproof import catalog
from logitproof.errors import ContractError
from logitproof.reference.planted import DECODE_NEEDS, PREFILL_NEEDS, Bugs, Planted, grid, showing
from logitproof.reference.search import refine, scan
from logitproof.rows.distance import distances, rms
from logitproof.rows.top import is_top

Verdict = Literal["same", "named", "ambiguous", "two bugs", "unexplained"]
Mode = Literal["prefill", "decode"]
SCREENED = 64
"""Positions of the first sequence on which every mutant is tried; the nearest are confirmed on everything."""
CONFIRMED = 12
PAIRED = 6
"""Nearest single bugs whose pairs are tried."""
FLOAT32 = 20.0
"""Factor on what float32 alone moves a logit, within which two engines are one."""
NOISE = 3.0
"""Factor on the candidate's own noise, within which a mutant explains it."""
LOUDEST = 10.0
"""Factor by which a bug may make the noise of a model louder."""
FAR = 3.0
"""How many times nearer than the reference a mutant must be to be named."""
TOLD_APART = 2.0
"""Mutants whose residuals differ by less than this factor cannot be told apart where noise is what is left."""


@dataclass(frozen=True)
class Mutant:
    """One known bug with its options, and how far its logits are from the candidate's."""

    name: str
    options: Mapping[str, Any]
    distance: float

    def __str__(self) -> str:
        shown = ", ".join(f"{key} = {_plain(value)}" for key, value in self.options.items())
        return f"{self.name}{f' ({shown})' if shown else ''}"


@dataclass(frozen=True)
class Diagnosis:
    """What explains the candidate.

    `mutants` are ranked, nearest first; of a verdict that names something, the first `named` of them cannot be told apart by
    these logits. Distances are in logits. `positions` are the five at which the best explains most, as (sequence, position).
    """

    verdict: Verdict
    to_reference: float
    noise: float
    mutants: tuple[Mutant, ...] = ()
    named: int = 0
    pair: tuple[Mutant, Mutant] | None = None
    positions: tuple[tuple[int, int], ...] = ()
    remedies: tuple[str, ...] = ()
    bugs: tuple[str, ...] = ()
    passes: int = 0
    seconds: float = 0.0
    skipped: tuple[str, ...] = field(default=(), repr=False)

    @property
    def names(self) -> list[str]:
        """Ids that the diagnosis holds possible; none where it is the same or unexplained."""
        if self.pair is not None:
            return [one.name for one in self.pair]
        return list(dict.fromkeys(one.name for one in self.mutants[: self.named]))

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        return {**asdict(self), "names": self.names}


def diagnose_logits(
    model: Path | Any,
    sequences: Sequence[Sequence[int]],
    candidate: Sequence[np.ndarray],
    *,
    mode: Mode = "prefill",
    noise: float | None = None,
    leave_out: Sequence[str] = (),
) -> Diagnosis:
    """Explain the candidate's logits [T, V] of each sequence by the known bugs of the HF model in the folder `model`.

    Rows may be `toprows.TOP` [T, K]: then distances are over the entries that are known, two of a position at least.
    `noise` is the RMS error in logits that the candidate's arithmetic makes; without it, what bfloat16 makes here. What is
    in `leave_out` is not tried. Raises ContractError where shapes do not fit, EnvironmentFailed without torch.
    """
    begin = time.monotonic()
    planted = Planted.opened(model, sequences) if isinstance(model, Path) else Planted(model, sequences)
    trial = _Trial(planted, candidate, mode)
    quiet = trial.quiet()
    noise = max(quiet, trial.rounding() if noise is None else noise)
    to_reference = trial.distance()
    if to_reference <= quiet:
        return Diagnosis("same", to_reference, noise, passes=planted.passes, seconds=time.monotonic() - begin)
    ranked, skipped = _ranked(trial, leave_out)
    found = _judged(trial, ranked, to_reference, quiet, noise, leave_out)
    records = [catalog.load("mutations", name) for name in found.names]
    return Diagnosis(
        **{
            **{key: getattr(found, key) for key in found.__dataclass_fields__},
            "remedies": tuple(dict.fromkeys(str(one.remedy) for one in records)),
            "bugs": tuple(dict.fromkeys(str(one.bug) for one in records)),
            "passes": planted.passes,
            "seconds": time.monotonic() - begin,
            "skipped": tuple(skipped),
        }
    )


def _judged(
    trial: _Trial, ranked: list[Mutant], to_reference: float, quiet: float, noise: float, leave_out: Sequence[str]
) -> Diagnosis:
    """The verdict on confirmed mutants, nearest first."""
    usual = trial.rounding()

    def explains(distance: float, *mutants: Mutant) -> bool:
        """Whether what is left is noise; a bug may make the model louder, and its noise with it."""
        if distance <= quiet:
            return True
        if not distance * FAR <= to_reference or not distance <= LOUDEST * NOISE * noise:
            return False
        if distance <= NOISE * noise:
            return True
        louder = trial.rounding([(one.name, one.options) for one in mutants]) / max(usual, 1e-12)
        return distance <= NOISE * noise * max(louder, 1.0)

    best = ranked[0] if ranked else None
    if best is not None and not explains(best.distance, best):
        ranked = _one_of_each(sorted([*_searched(trial, leave_out), *ranked], key=lambda one: one.distance))
        best = ranked[0]
    if best is not None and explains(best.distance, best):
        limit = max(best.distance * TOLD_APART, quiet)
        named = [one for one in ranked if one.distance <= limit and explains(one.distance, one)]
        rest = [one for one in ranked if one not in named]
        verdict: Verdict = "named" if len({one.name for one in named}) == 1 else "ambiguous"
        mutants = (*(named[:1] if verdict == "named" else named), *rest)
        count = 1 if verdict == "named" else len(named)
        return Diagnosis(verdict, to_reference, noise, mutants, count, positions=trial.decisive(named[0]))
    if to_reference <= NOISE * noise:
        return Diagnosis("same", to_reference, noise, tuple(ranked))
    if (pair := _paired(trial, ranked)) is not None and explains(pair[0].distance, *pair):
        return Diagnosis("two bugs", to_reference, noise, tuple(ranked), 0, pair)
    return Diagnosis("unexplained", to_reference, noise, tuple(ranked))


def _ranked(trial: _Trial, leave_out: Sequence[str]) -> tuple[list[Mutant], list[str]]:
    """Every applicable mutation with every value of its grid, screened, the nearest confirmed."""
    found, skipped = [], []
    for name, kind in _applicable(trial, leave_out):
        for options in grid(kind):
            try:
                if kind(**options).applies(trial.planted.config):
                    far = trial.distance([(name, options)], short=True)
                    found.append(Mutant(name, options, far))
            except Exception as error:  # a mutation that cannot be planted here must not end the diagnosis of the others
                skipped.append(f"{name}: {type(error).__name__}: {error}")
                break
    found.sort(key=lambda one: one.distance)
    near = _one_of_each(found)[:CONFIRMED]
    confirmed = [Mutant(one.name, one.options, trial.distance([(one.name, one.options)])) for one in near]
    return sorted(confirmed, key=lambda one: one.distance), skipped


def _applicable(trial: _Trial, leave_out: Sequence[str]) -> Iterator[tuple[str, Any]]:
    """Mutations that logits of this mode can show, of which none is proven to show nothing."""
    needs = DECODE_NEEDS if trial.mode == "decode" else PREFILL_NEEDS
    return ((name, kind) for name, kind in showing(needs) if name not in leave_out)


def _one_of_each(mutants: Sequence[Mutant]) -> list[Mutant]:
    """The nearest value of each mutation."""
    nearest: dict[str, Mutant] = {}
    for one in mutants:
        nearest.setdefault(one.name, one)
    return list(nearest.values())


def _searched(trial: _Trial, leave_out: Sequence[str]) -> list[Mutant]:
    """The nearest values of parameters between the ends that their mutations name, where the grid has missed.

    Every range is scanned on the screened positions; a golden section in the value's logarithm follows in the best ones.
    """
    scans = []
    for name, kind in _applicable(trial, leave_out):
        for key, (low, high) in kind.ranges.items():
            if kind().applies(trial.planted.config):
                far = _Far(trial, name, key)
                scans.append((scan(far, low, high, kind.grid.get(key, ())), name, key, far))
    found = []
    for scanned, name, key, far in sorted(scans, key=lambda one: min(distance for _, distance in one[0]))[:PAIRED]:
        options = {key: float(f"{refine(far, scanned):.4g}")}
        found.append(Mutant(name, options, trial.distance([(name, options)])))
    return found


@dataclass(frozen=True)
class _Far:
    """How far a mutation with one parameter is from the candidate, as a function of the parameter."""

    trial: _Trial
    name: str
    key: str

    def __call__(self, value: float) -> float:
        try:
            return self.trial.distance([(self.name, {self.key: value})], short=True)
        except (RuntimeError, ValueError):  # a value at the end of a range may not be plantable in this model
            return math.inf


def _paired(trial: _Trial, ranked: Sequence[Mutant]) -> tuple[Mutant, Mutant] | None:
    """The best pair of a near bug and any of the confirmed ones, planted together."""
    best: tuple[float, Mutant, Mutant] | None = None
    for index, first in enumerate(ranked[:PAIRED]):
        for second in ranked[index + 1 :]:
            if first.name == second.name:
                continue
            try:
                both = [(first.name, first.options), (second.name, second.options)]
                distance = trial.distance(both)
            except Exception:  # noqa: S112 -- two bugs may not be plantable together
                continue
            if best is None or distance < best[0]:
                best = (distance, first, second)
    if best is None:
        return None
    distance, first, second = best
    return Mutant(first.name, first.options, distance), Mutant(second.name, second.options, distance)


class _Trial:
    """The candidate's logits, and how far from them the reference is with one bug or another."""

    def __init__(self, planted: Planted, candidate: Sequence[np.ndarray], mode: Mode) -> None:
        self.mode, self.planted = mode, planted
        self._candidate = [
            _known(rows, planted.vocabulary) if is_top(rows) else np.asarray(rows, np.float64) for rows in candidate
        ]
        if not planted.sequences or len(planted.sequences) != len(self._candidate):
            raise ContractError(f"{len(self._candidate)} arrays of logits for {len(planted.sequences)} sequences")
        for ids, rows, given in zip(planted.sequences, self._candidate, candidate, strict=True):
            if rows.ndim != 2 or len(rows) != len(ids) or not (is_top(given) or np.isfinite(rows).all()):
                raise ContractError(f"logits of shape {rows.shape} for {len(ids)} tokens, or not finite")

    def distance(self, bugs: Bugs = (), *, short: bool = False) -> float:
        """RMS over all positions of the shift-free RMS difference from the candidate; infinite where not finite."""
        wanted = [self._candidate[0][:SCREENED]] if short else self._candidate
        logits = self._logits(bugs, short=short)
        return rms(*(distances(ours, theirs, ~np.isnan(theirs)) for ours, theirs in zip(logits, wanted, strict=True)))

    def quiet(self) -> float:
        """What float32 alone moves a logit of this model, widened by `FLOAT32`."""
        ours, theirs = (self.planted.logits(cached=cached, beginning=SCREENED)[0] for cached in (False, True))
        return FLOAT32 * max(rms(distances(ours, theirs)), float(np.abs(ours).max()) * 2.0**-24)

    def rounding(self, bugs: Bugs = ()) -> float:
        """The RMS error that bfloat16 arithmetic makes in this model, with these bugs planted."""
        ours = self._logits(bugs, short=True)[0]
        with self.planted.rounded():
            theirs = self._logits(bugs, short=True)[0]
        return rms(distances(ours, theirs))

    def decisive(self, mutant: Mutant) -> tuple[tuple[int, int], ...]:
        """The five positions at which the mutant explains most of the distance."""
        right, wrong = self._logits(()), self._logits([(mutant.name, mutant.options)])
        gains = []
        for number, (a, b, c) in enumerate(zip(right, wrong, self._candidate, strict=True)):
            gain = distances(a, c, ~np.isnan(c)) - distances(b, c, ~np.isnan(c))
            gains += [(float(value), number, position) for position, value in enumerate(gain)]
        return tuple((number, position) for _, number, position in sorted(gains, reverse=True)[:5])

    def _logits(self, bugs: Bugs, *, short: bool = False) -> list[np.ndarray]:
        """Only a bug of the cache is run through it, token by token: all others give the same in one pass."""
        cached = self.mode == "decode" and any(catalog.load("mutations", name).needs == "decode" for name, _ in bugs)
        return self.planted.logits(bugs, cached=cached, beginning=SCREENED if short else None)


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


def _plain(value: Any) -> str:
    return f"{value:,.10g}" if isinstance(value, float) and abs(value) >= 1 else f"{value}"
