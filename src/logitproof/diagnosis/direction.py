"""A bug that is smaller than the noise, found by where the difference points to: noise has a size, and no direction.

The candidate's difference d from the reference is what a bug changes, m, and noise, which is as likely to go along m as
against it. So d = a m + noise, and the slope a, by least squares over all positions and sums of the centred vocabulary, is 1
where the bug is there, within an error that the scatter over positions tells, and 0 where it is not. Numbers are so many that
the error is small where the noise is as large as the bug.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from logitproof.comparison.chance import normal_of_student
from logitproof.diagnosis.found import Diagnosis, Finding, Mutant, Verdict
from logitproof.diagnosis.noise import FLAT, Floor
from logitproof.diagnosis.search import Searcher, one_of_each

BLOCKS = 32
"""Runs of positions whose sums are compared: positions next to each other may err alike."""
FEWEST = 12
"""Blocks below which nothing is told."""
CHANCE = 1e-6
"""How likely noise alone may point so far along some bug of all that were tried, at most."""
SURE = 10.0
"""How many errors the slope is away from 0, at least: an error is told by few blocks."""
OFF, ERRORS = 0.05, 4.0
"""How far from 1 the slope may be: by so much, since a bug makes noise of its own, or by so many of its errors."""
UNEVEN = 1e-3
"""How likely slopes along single directions differ so much by chance, at least: another bug points along some of them only."""
SHARE = 0.3
"""Cosine between the difference and what the bug changes, at least."""
DIRECTIONS, HOLDS = 12, 0.01
"""Principal directions of what a bug changes in which the slope is asked for, each with so much of its square."""
LOUDEST = 8
"""One in so many blocks, those that a bug changes most, is left out for a second look: one other expert is no direction."""
TRIED = 8
"""Bugs that are measured on everything: half by their distance, half by their direction."""
OF_ARITHMETIC = ("low_precision", "quantized", "rounded")
"""Parts of the names of bugs that are an arithmetic: below the noise that is declared, they are what was declared."""


@dataclass(frozen=True)
class Direction:
    """How the candidate's difference goes along what a bug changes.

    `slope` has `error`, `share` is the cosine, `even` how likely the slopes of single directions differ so by chance,
    `elsewhere` how many errors the slope is above 0 without the loudest blocks, `size` the RMS in logits that the bug changes,
    `left` [N] the squared sketch that remains at each position.
    """

    mutant: Mutant
    slope: float
    error: float
    share: float
    even: float
    elsewhere: float
    size: float
    blocks: int
    left: np.ndarray

    def is_there(self, tried: int) -> bool:
        """Whether noise alone would hardly point so far along one of so many bugs."""
        sure = self.slope / self.error if self.error > 0 else math.inf
        there = sure >= SURE and self.elsewhere >= SURE / 2
        return there and _chance(tried, sure, self.blocks) <= CHANCE and self.share >= SHARE

    def is_whole(self) -> bool:
        """Whether it is this very bug, as strong as it is, in every direction."""
        return abs(self.slope - 1.0) <= max(OFF, ERRORS * self.error) and self.error <= 1 / SURE and self.even >= UNEVEN

    def known(self, floor: Floor) -> Mutant:
        """The bug with its values as well as the direction tells them, which is better than the noise allows."""
        finer = min(ERRORS * self.error * self.size / floor.limit, 1.0)
        give = {key: value * finer for key, value in self.mutant.uncertainty.items()}
        return Mutant(self.mutant.name, self.mutant.options, self.mutant.distance, give)

    def finding(self, *, named: bool) -> Finding:
        """The evidence."""
        what = "told by its direction" if named else "yet no noise has a direction"
        text = (
            f"below the noise by size, {what}: the difference is {self.slope:.3g} ± {self.error:.2g} times what "
            f"{self.mutant} changes (cosine {self.share:.2f}), and what is left is noise by its size"
        )
        return Finding("direction", text, {"slope": self.slope, "error": self.error, "cosine": self.share})


def pointed(searcher: Searcher, ranked: Sequence[Mutant], floor: Floor) -> Diagnosis | None:
    """The bug that the difference points along, though it is no larger than noise: named, or, where it is no bug as it is,
    `below noise` with what is seen of it. None where there is no direction.
    """
    trial = searcher.trial
    if not trial.whole or not floor.to_reference <= FLAT * trial.spread():
        return None
    wanted, tried = trial.sketch_of_all(), len(searcher.screened)
    directions = [_direction(searcher, mutant, wanted) for mutant in _likely(searcher, ranked)]
    there = [direction for direction in directions if direction.is_there(tried)]
    if not there:
        return None
    if not _whole(there, tried):
        fitted = [mutant for mutant in searcher.fitted(floor) if not _of_arithmetic(mutant.name)]
        there += [_direction(searcher, mutant, wanted) for mutant in fitted]
        tried += len(fitted)
    whole = _whole(there, tried)
    if not whole or _more_is_there(searcher, whole[0], tried):
        seen = (max(there, key=lambda direction: direction.share).finding(named=False),)
        return Diagnosis("below noise", floor.to_reference, floor.level, tuple(ranked), source=floor.source, findings=seen)
    alike = one_of_each([direction.known(floor) for direction in whole if not _is_farther(direction, whole[0])])
    verdict: Verdict = "named" if len(alike) == 1 else "ambiguous"
    rest = [mutant for mutant in ranked if mutant.name not in {near.name for near in alike}]
    findings = (whole[0].finding(named=True),)
    positions = trial.decisive(alike[:1])
    return Diagnosis(
        verdict, floor.to_reference, floor.level, (*alike, *rest), len(alike), (), positions, floor.source, findings
    )


def _likely(searcher: Searcher, ranked: Sequence[Mutant]) -> list[Mutant]:
    """The bugs that leave least, and those that point most in the direction of the difference."""
    towards = searcher.towards()
    best = {mutant.name: mutant for mutant, _ in sorted(searcher.screened, key=lambda pair: -pair[0].distance)}
    pointing = [best[name] for name in sorted(best, key=lambda name: -towards[name])]
    nearest = one_of_each([*ranked, *sorted(best.values(), key=lambda mutant: mutant.distance)])
    halves = [[bug for bug in bugs if not _of_arithmetic(bug.name)][: TRIED // 2] for bugs in (nearest, pointing)]
    return list({str(bug): bug for half in halves for bug in half}.values())


def _of_arithmetic(name: str) -> bool:
    return name.startswith("numerics.") or any(part in name for part in OF_ARITHMETIC)


def _direction(searcher: Searcher, mutant: Mutant, wanted: np.ndarray) -> Direction:
    """The same of a bug that is planted, with its distance on everything."""
    bugs = [(mutant.name, mutant.options)]
    distance = searcher.trial.distance(bugs)
    measured = Mutant(mutant.name, mutant.options, distance, mutant.uncertainty)
    return direction_of(measured, wanted, searcher.trial.sketch_of_all(bugs))


def direction_of(mutant: Mutant, wanted: np.ndarray, changed: np.ndarray) -> Direction:
    """How the candidate's difference goes along what a bug changes, both as sketches [N, S] of all positions."""
    blocks = max(min(BLOCKS, len(wanted) // 2), 2)
    slope, error = _slope(wanted, changed, blocks)
    size = float(np.linalg.norm(wanted)) * float(np.linalg.norm(changed))
    share = float((wanted * changed).sum()) / size if size and np.isfinite(size) else 0.0
    enough = blocks >= FEWEST and share >= SHARE
    even = _even(wanted, changed, slope, blocks) if enough else 0.0
    elsewhere = _elsewhere(wanted, changed, blocks) if enough else 0.0
    left = ((wanted - changed) ** 2).sum(axis=1)
    changes = float(np.sqrt((changed**2).sum(axis=1).mean()))
    return Direction(mutant, slope, error, share, even, elsewhere, changes, blocks, left)


def _elsewhere(wanted: np.ndarray, changed: np.ndarray, blocks: int) -> float:
    """How many errors the slope is above 0 without the blocks that the bug changes most."""
    rows = np.array_split(np.arange(len(changed)), blocks)
    loud = np.argsort([-(changed[block] ** 2).sum() for block in rows])[: max(blocks // LOUDEST, 1)]
    kept = np.concatenate([block for place, block in enumerate(rows) if place not in loud])
    slope, error = _slope(wanted[kept], changed[kept], blocks - len(loud))
    return slope / error if error > 0 else math.inf if slope > 0 else 0.0


def _slope(wanted: np.ndarray, changed: np.ndarray, blocks: int) -> tuple[float, float]:
    """Least squares through 0, and its error by what is left of each block of rows (Liang and Zeger 1986)."""
    size = float((changed**2).sum())
    if not size or not np.isfinite(size):
        return 0.0, math.inf
    slope = float((wanted * changed).sum()) / size
    left = ((wanted - slope * changed) * changed).reshape(len(wanted), -1).sum(axis=1)
    sums = np.array([block.sum() for block in np.array_split(left, blocks)])
    return slope, math.sqrt(blocks / (blocks - 1) * float((sums**2).sum())) / size


def _even(wanted: np.ndarray, changed: np.ndarray, slope: float, blocks: int) -> float:
    """How likely slopes differ so much by chance: along single principal directions of what the bug changes, and between the
    earlier and the later positions and those that it changes less and more (Bonferroni, for these are not independent).
    """
    _, sizes, columns = np.linalg.svd(changed.astype(np.float64), full_matrices=False)
    count = min(int((sizes**2 >= HOLDS * (sizes**2).sum()).sum()), DIRECTIONS)
    tried, least = 2 * (count + 2), 1.0
    for column in columns[:count]:
        own, error = _slope((wanted @ column)[:, None], (changed @ column)[:, None], blocks)
        least = min(least, _chance(tried, abs(own - slope) / max(error, 1e-12), blocks))
    size = (changed**2).sum(axis=1)
    for order in (np.arange(len(size)), np.argsort(size, kind="stable")):
        parts = np.array_split(order, 2)
        (early, early_error), (late, late_error) = (
            _slope(wanted[np.sort(part)], changed[np.sort(part)], blocks // 2) for part in parts
        )
        error = max(math.hypot(early_error, late_error), 1e-12)
        least = min(least, _chance(tried, abs(early - late) / error, blocks // 2))
    return least


def _chance(tried: int, errors: float, blocks: int) -> float:
    """How likely one of so many slopes is so many errors above what it should be, where blocks tell the errors."""
    return min(tried * 0.5 * math.erfc(normal_of_student(errors, blocks - 1) / math.sqrt(2)), 1.0)


def _whole(directions: Sequence[Direction], tried: int) -> list[Direction]:
    """Those that are there as they are, the nearest first."""
    whole = [direction for direction in directions if direction.is_there(tried) and direction.is_whole()]
    return sorted(whole, key=lambda direction: float(direction.left.sum()))


def _is_farther(direction: Direction, nearest: Direction) -> bool:
    """Whether a bug leaves more than the nearest, by more than what differs from block to block."""
    sums = np.array([block.sum() for block in np.array_split(direction.left - nearest.left, nearest.blocks)])
    error = float(sums.std(ddof=1)) / math.sqrt(len(sums))
    return float(sums.mean()) > ERRORS * error


def _more_is_there(searcher: Searcher, nearest: Direction, tried: int) -> bool:
    """Whether what the nearest bug leaves points along another one: then it is not the whole, and no name."""
    screened = {str(mutant): sketch for mutant, sketch in searcher.screened}
    changed = searcher.trial.screened([(nearest.mutant.name, nearest.mutant.options)])[1]
    left = searcher.trial.wanted() - changed
    size, blocks = float(np.linalg.norm(left)), max(min(BLOCKS, len(left) // 2), 2)
    for name, sketch in screened.items():
        length = float(np.linalg.norm(sketch))
        if name.partition(" ")[0] == nearest.mutant.name or _of_arithmetic(name) or not length or not np.isfinite(length):
            continue
        share = float((left * sketch).sum()) / (length * size)
        slope, error = _slope(left, sketch, blocks)
        if Direction(nearest.mutant, slope, error, share, 1.0, SURE, length, blocks, left).is_there(tried):
            return True
    return False
