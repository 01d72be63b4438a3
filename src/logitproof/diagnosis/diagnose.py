"""Names the bug: which known mutation of the reference gives the candidate's logits, or which few of them together.

Every applicable mutation is planted in the reference, one after another, and its logits are compared with the
candidate's. Distance is the RMS over positions of the RMS logit difference of a position, the mean difference taken off.
What no bug explains is described by its shape. torch is imported by the first diagnosis, never before.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from logitproof import catalog
from logitproof.diagnosis import noise as noises
from logitproof.diagnosis.difference import Difference
from logitproof.diagnosis.direction import pointed
from logitproof.diagnosis.found import Diagnosis, Finding, Known, Mode, Mutant, Verdict
from logitproof.diagnosis.noise import FLAT, Floor, floor_of, shown
from logitproof.diagnosis.search import Searcher, one_of_each, screen
from logitproof.diagnosis.several import together
from logitproof.diagnosis.shape import shape_of
from logitproof.diagnosis.trial import Trial
from logitproof.reference.planted import Planted
from logitproof.rows.transform import Transform, between, by_themselves

TOLD_APART = 2.0
"""Mutants whose residuals differ by less than this factor cannot be told apart where noise is what is left."""
TRANSFORMS = {"probabilities": "head.probabilities", "shifted by -1": "head.one_position_late"}
"""The known bug that is a transform, by the transform's name."""
OWN_SHAPE = 0.3
"""Share of the candidate's own spread that a bug may leave to be told as a part."""
PARTLY = 10.0
"""How many times nearer than the reference a bug must bring the logits to be told with what it leaves."""


def diagnose_logits(
    model: Path | Any,
    sequences: Sequence[Sequence[int]],
    candidate: Sequence[np.ndarray],
    *,
    mode: Mode = "prefill",
    noise: float | Known | None = None,
    leave_out: Sequence[str] = (),
) -> Diagnosis:
    """Explain the candidate's logits [T, V] of each sequence by the known bugs of the HF model in the folder `model`.

    Rows may be `toprows.TOP` [T, K]: then distances are over the entries that are known, two of a position at least.
    `noise` is the RMS error in logits that the candidate's arithmetic makes, or all that is known of the candidate; without
    it, what the logits show, and what bfloat16 makes here where they show nothing. What is in `leave_out` is not tried.
    Raises ContractError where shapes do not fit, EnvironmentFailed without torch.
    """
    planted = Planted.opened(model, sequences) if isinstance(model, Path) else Planted(model, sequences)
    known = noise if isinstance(noise, Known) else Known(noise)
    (diagnosis,) = diagnose_cells(planted, [Asked(candidate, mode, known)], leave_out)
    return diagnosis


@dataclass(frozen=True)
class Asked:
    """A candidate's logits [T, V] of each sequence, how they came about, and what is known of it."""

    candidate: Sequence[np.ndarray]
    mode: Mode = "prefill"
    known: Known = field(default_factory=Known)


def diagnose_cells(planted: Planted, asked: Sequence[Asked], leave_out: Sequence[str] = ()) -> Iterator[Diagnosis]:
    """Explain several candidates on the sequences of one planted model, one after another, as each is told.

    Every bug is planted once for all of them. Raises ContractError where shapes do not fit.
    """
    begin = time.monotonic()
    searchers = [Searcher(Trial(planted, cell.candidate, cell.mode), leave_out) for cell in asked]
    floors = [floor_of(searcher.trial, cell.known) for searcher, cell in zip(searchers, asked, strict=True)]
    same = [_same(floor, cell.known) for floor, cell in zip(floors, asked, strict=True)]
    if differing := [searcher for searcher, answer in zip(searchers, same, strict=True) if answer is None]:
        screen(differing)
    for searcher, floor, cell, nothing in zip(searchers, floors, asked, same, strict=True):
        diagnosis = nothing or _transformed(searcher.trial, floor, leave_out) or _explained(searcher, floor, cell.known)
        if diagnosis.verdict == "no logits":
            yield replace(diagnosis, passes=planted.passes, seconds=time.monotonic() - begin)
            continue
        if diagnosis.verdict in ("unexplained", "partly", "below noise"):
            shape = shape_of(_difference(searcher.trial, floor, cell.known))
            layer = searcher.layered.finding() if searcher.layered is not None else None
            findings = (*diagnosis.findings, *_curve(searcher.trial), *shape, *([layer] if layer else []))
            diagnosis = replace(diagnosis, findings=findings)
        records = [catalog.load("mutations", name) for name in diagnosis.names]
        yield replace(
            diagnosis,
            remedies=tuple(dict.fromkeys(str(record.remedy) for record in records)),
            bugs=tuple(dict.fromkeys(str(record.bug) for record in records)),
            passes=planted.passes,
            seconds=time.monotonic() - begin,
            skipped=tuple(searcher.skipped),
        )


def _same(floor: Floor, known: Known) -> Diagnosis | None:
    """Nothing to explain: within float32's own noise. A cell that is WRONG is never that."""
    if floor.to_reference > floor.quiet:
        return None
    verdict: Verdict = "below noise" if known.wrong else "same"
    return Diagnosis(verdict, floor.to_reference, floor.level, source=floor.source)


def _transformed(trial: Trial, floor: Floor, leave_out: Sequence[str]) -> Diagnosis | None:
    """Rows that are no logits, or not those of these tokens: of all bugs only the one that is this very transform is tried."""
    if not trial.whole:
        return None
    transforms = [_of_sequence(trial, number) for number in range(len(trial.candidate))]
    transform = transforms[0]
    # numbers in its sentence may differ from one sequence to the next
    names = {transform_of_one.name if transform_of_one else "" for transform_of_one in transforms}
    if transform is None or transform.kind == "curve" or len(names) > 1:
        return None
    finding = Finding(transform.name, transform.text, {"kind": transform.kind})
    plain = Diagnosis("no logits", floor.to_reference, floor.level, source=floor.source, findings=(finding,))
    bug = TRANSFORMS.get(transform.name, "")
    if not bug or bug in leave_out or not (distance := trial.distance([(bug, {})])) <= FLAT * trial.spread():
        return replace(plain, remedies=(transform.remedy,))
    mutants = (Mutant(bug, {}, distance),)
    return replace(plain, verdict="named", mutants=mutants, named=1, positions=trial.decisive(mutants))


def _curve(trial: Trial) -> tuple[Finding, ...]:
    """Rows that are nearly flat: nothing else of their shape can be read."""
    transform = _of_sequence(trial, 0) if trial.whole else None
    if transform is None or transform.name != "nearly flat":
        return ()
    return (Finding(transform.name, transform.text, {"kind": transform.kind}),)


def _of_sequence(trial: Trial, number: int) -> Transform | None:
    """What the rows of one sequence are."""
    rows = trial.candidate[number]
    others: dict[str, Callable[[], np.ndarray]] = {
        f"sequence {n}": functools.partial(np.asarray, right) for n, right in enumerate(trial.right) if n != number
    }
    return by_themselves(rows) or between(trial.right[number], rows, others)


def _explained(searcher: Searcher, floor: Floor, known: Known) -> Diagnosis:
    """The verdict: one bug, one fitted value, one place, several bugs; then what explains a part; then nothing."""
    ranked = searcher.singles()
    floor = _lowered(searcher.trial, floor, ranked)
    if (named := _named(searcher.trial, ranked, floor)) is not None:
        first, *rest = named.mutants
        return replace(named, mutants=(searcher.placed(first, max(first.distance, floor.quiet)), *rest))
    if floor.to_reference <= noises.NOISE * floor.level:
        within: Verdict = "same" if not known.wrong and floor.source != "bfloat16" else "below noise"
        weak = pointed(searcher, ranked, floor)
        if weak is not None and (weak.named or within == "below noise"):
            return weak
        return Diagnosis(within, floor.to_reference, floor.level, tuple(ranked), source=floor.source)
    for mutants in _further(searcher, ranked, floor):
        ranked = one_of_each(sorted([*mutants, *ranked], key=lambda mutant: mutant.distance))
        if (named := _named(searcher.trial, ranked, floor)) is not None:
            return named
    if (several := together(searcher, ranked, floor)) is not None:
        verdict: Verdict = "two bugs" if len(several) == 2 else "several bugs"
        positions = searcher.trial.decisive(several)
        return Diagnosis(verdict, floor.to_reference, floor.level, tuple(ranked), 0, several, positions, floor.source)
    if ranked and not ranked[0].uncertainty and _is_part(ranked[0], searcher.trial, floor):
        positions = searcher.trial.decisive(ranked[:1])
        return Diagnosis("partly", floor.to_reference, floor.level, tuple(ranked), 1, (), positions, floor.source)
    return Diagnosis("unexplained", floor.to_reference, floor.level, tuple(ranked), source=floor.source)


def _is_part(mutant: Mutant, trial: Trial, floor: Floor) -> bool:
    """Whether a bug explains most: of the distance, and of the candidate's own shape, so that flat rows are not explained."""
    return mutant.distance * PARTLY <= floor.to_reference and mutant.distance <= OWN_SHAPE * trial.spread()


def _further(searcher: Searcher, ranked: Sequence[Mutant], floor: Floor) -> Iterator[list[Mutant]]:
    """Values between those of the grid, then bugs of single places: each stage is run only when it is asked for."""
    yield _solid(searcher.fitted(floor), floor)
    if searcher.large:
        yield searcher.in_one_layer()
    yield searcher.places(ranked, floor.limit)


def _lowered(trial: Trial, floor: Floor, ranked: Sequence[Mutant]) -> Floor:
    """The noise after the nearest bugs were tried: if a bug brings a position nearer than the noise, the noise is smaller."""
    for mutant in ranked[:3]:
        floor = shown(floor, trial.by_position([(mutant.name, mutant.options)]))
    return floor


def _solid(fitted: Sequence[Mutant], floor: Floor) -> list[Mutant]:
    """Fitted values that leave noise alone: a free parameter fits a part of anything, so that what leaves more is no name."""
    return [mutant for mutant in fitted if mutant.distance <= floor.limit]


def _named(trial: Trial, ranked: Sequence[Mutant], floor: Floor) -> Diagnosis | None:
    """One bug that leaves only noise, or several that these logits cannot tell apart; None where even the best leaves more."""
    if not ranked or not floor.explains(ranked[0].distance, (ranked[0],)):
        return None
    limit = max(ranked[0].distance * TOLD_APART, floor.quiet)
    named = [mutant for mutant in ranked if mutant.distance <= limit and floor.explains(mutant.distance, (mutant,))]
    rest = [mutant for mutant in ranked if mutant not in named]
    verdict: Verdict = "named" if len({mutant.name for mutant in named}) == 1 else "ambiguous"
    kept = named[:1] if verdict == "named" else named
    positions = trial.decisive(named[:1])
    return Diagnosis(verdict, floor.to_reference, floor.level, (*kept, *rest), len(kept), (), positions, floor.source)


def _difference(trial: Trial, floor: Floor, known: Known) -> Difference:
    """What the shape of the difference is read from."""
    head = trial.planted.head()
    other_mode = [np.asarray(rows, np.float64) for rows in known.other] if trial.whole else []
    return Difference(
        tuple(tuple(ids) for ids in trial.planted.sequences),
        tuple(trial.right),
        tuple(trial.candidate),
        trial.mode,
        floor.limit,
        tuple(other_mode),
        head,
    )
