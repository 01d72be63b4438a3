"""How much of a difference is noise: by what a cell is judged by, by what is known, or by what the engine shows of itself."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from logitproof.contract.arithmetic import Arithmetic
from logitproof.diagnosis.found import Known, Mutant, Source
from logitproof.diagnosis.trial import SCREENED, Trial
from logitproof.errors import Refusal
from logitproof.rows.distance import distances, rms

NOISE = 3.0
"""Factor on the candidate's own noise, within which a mutant explains it."""
LOUDEST = 10.0
"""Factor by which a bug may make the noise of a model louder."""
FAR = 3.0
"""How many times nearer than the reference a mutant must be to be named."""
FLAT = 0.1
"""Share of the candidate's own spread: what is left of flat rows is within any noise, and is no explanation."""
BFLOAT16 = 8
"""Significant bits of bfloat16: each further bit halves its noise."""
GUESSED: tuple[Source, ...] = ("bfloat16", "band of the contract", "the engine itself")
"""Sources that the logits themselves may better."""
SHOWN = 5.0
"""Factor on the smallest difference at a position: noise is about as large at all of them, so no engine hides more."""


FORETOLD = 1.5
"""How much more may be left than the engine's arithmetic is foretold to make of the model with the bug."""


@dataclass(frozen=True)
class Floor:
    """`quiet` is float32's own, `level` the candidate's noise, RMS in logits; `source` says where that comes from.

    `arithmetic` is the candidate's, where its errors can be imitated.
    """

    trial: Trial
    quiet: float
    level: float
    source: Source
    to_reference: float
    arithmetic: Arithmetic | None = None

    def explains(self, distance: float, mutants: tuple[Mutant, ...]) -> bool:
        """Whether what is left is noise; a bug may make the model louder, and its noise with it."""
        if distance <= self.quiet:
            return True
        if not distance * FAR <= self.to_reference:
            return False
        if distance > NOISE * self.level and self._is_foretold(distance, mutants):
            return True
        if not distance <= LOUDEST * NOISE * self.level:
            return False
        if not distance <= FLAT * self.trial.spread():
            return False
        if distance <= NOISE * self.level:
            return True
        if self.source != "bfloat16" and self.level <= self.quiet:
            return False
        bugs = [(mutant.name, mutant.options) for mutant in mutants]
        louder = self.trial.rounding(bugs) / max(self.trial.rounding(), 1e-12)
        return distance <= NOISE * self.level * max(louder, 1.0)

    def _is_foretold(self, distance: float, mutants: tuple[Mutant, ...]) -> bool:
        """Whether the arithmetic makes as much in the model with the bugs: a spoilt model may amplify every rounding."""
        if self.arithmetic is None:
            return False
        bugs = [(mutant.name, mutant.options) for mutant in mutants]
        return distance <= FORETOLD * self.trial.imitated(self.arithmetic, bugs)

    @property
    def limit(self) -> float:
        """What may be left of a difference that is explained, but for bugs that make the noise louder."""
        return max(self.quiet, NOISE * self.level)


def floor_of(trial: Trial, known: Known) -> Floor:
    """The noise before any bug was tried: what is known, or what the engine shows between its own two modes, or bfloat16's."""
    quiet, to_reference = trial.quiet(), trial.distance()
    if known.noise is not None:
        return Floor(trial, quiet, max(quiet, known.noise), known.source, to_reference)
    if known.bits is not None:
        imitated = _imitated(trial, known)
        level = imitated or trial.rounding() * 2.0 ** (BFLOAT16 - known.bits)
        arithmetic = known.arithmetic if imitated else None
        return Floor(trial, quiet, max(quiet, level), "arithmetic", to_reference, arithmetic)
    level = max(quiet, trial.rounding())
    source: Source = "bfloat16"
    if known.at_most is not None and known.at_most < level:
        level, source = max(quiet, known.at_most), "band of the contract"
    itself = _between_modes(trial, known)
    if 0.0 < itself < level:
        level, source = max(quiet, itself), "the engine itself"
    return shown(Floor(trial, quiet, level, source, to_reference), trial.by_position())


def _imitated(trial: Trial, known: Known) -> float | None:
    """The RMS error of an arithmetic with activations in blocks, by one pass with its noise; None where that is not known.

    The number of bits says little there: the step of a block is that of its largest value, and a real model has one that is a
    thousand times the others.
    """
    if known.arithmetic is None or not known.arithmetic.blocks:
        return None
    try:
        return trial.imitated(known.arithmetic)
    except Refusal:
        return None


def shown(floor: Floor, by_position: list[np.ndarray]) -> Floor:
    """The same, or less where some position is nearer than the noise could be: noise spares none."""
    if floor.source not in GUESSED:
        return floor
    flat = np.concatenate(by_position)
    smallest = SHOWN * float(np.min(flat)) if len(flat) else np.inf
    if not smallest < floor.level:
        return floor
    return replace(floor, level=max(floor.quiet, smallest), source="the engine itself")


def _between_modes(trial: Trial, known: Known) -> float:
    """RMS difference of the candidate's prefill and its decode: no noise is larger, and none where they are bit-equal."""
    pairs = [
        (rows[:SCREENED], np.asarray(other_rows, np.float64)[:SCREENED])
        for rows, other_rows in zip(trial.candidate, known.other, strict=False)
        if trial.whole and np.shape(other_rows) == rows.shape
    ]
    return rms(*(distances(rows, other_rows) for rows, other_rows in pairs)) if pairs else 0.0
