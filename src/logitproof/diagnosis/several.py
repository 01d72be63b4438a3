"""The search for several bugs at once: the best are planted, and every bug of the library is ranked on top of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from logitproof import catalog
from logitproof.diagnosis.far import Far
from logitproof.diagnosis.found import Mutant
from logitproof.diagnosis.layers import explained_by_sums
from logitproof.diagnosis.noise import Floor
from logitproof.diagnosis.search import Searcher, one_of_each
from logitproof.reference.search import scan

MOST = 4
"""Bugs that are sought together."""
BEAM = {2: 5, 3: 3, 4: 2}
"""How many of the best sets are gone on with, by the size of the set that is sought."""
KEPT = 8
"""Sets of each size that are measured on all sequences."""
ADDED = 40
"""Pairs whose single differences, added, come nearest to the candidate's: planted, whichever rank their halves have."""
GAIN = 1.3
"""Factor by which a further bug must bring the set nearer for the search to go on."""
NEARER = 0.95
"""Share of the plain reference's distance below which a bug counts as a part of what is sought."""
TRIED = 60
"""Bugs that are put on top of a set before it is asked whether any of them brings it nearer."""
FEW, PASSES = 3, 36
"""What a large model is given instead: sets that are gone on with and measured on everything, and passes for a size."""
ROUNDS = 3
WORTH_FITTING = 0.5
"""Share of the plain reference's distance that a set of a large model may leave for its values to be fitted."""
HOPELESS = 0.6
"""Share of a difference, left by the best four bugs of free strength, above which sets are not planted in a large model."""

Found = tuple[Mutant, ...]


@dataclass(frozen=True)
class _Set:
    """Bugs that are planted together, and their distance."""

    bugs: tuple[tuple[str, dict[str, object]], ...]
    distance: float

    @property
    def names(self) -> frozenset[str]:
        return frozenset(name for name, _ in self.bugs)


def together(searcher: Searcher, ranked: Sequence[Mutant], floor: Floor) -> Found | None:
    """The fewest bugs, two to four, that leave no more than noise when all are planted; None if no set does.

    Values of the grid come first; only where they leave more are values fitted, those of all bugs of a set together.
    """
    if searcher.large and (_in_one_place(searcher) or _hopeless(searcher)):
        return None
    beam = [_Set(((mutant.name, dict(mutant.options)),), mutant.distance) for mutant in _firsts(searcher, ranked)]
    added = list(_added(searcher))
    if not any(kept.distance < NEARER * floor.to_reference for kept in (*beam, *added)):
        return None  # what no bug and no pair brings nearer is no sum of known bugs
    for size in range(2, MOST + 1):
        before = min((kept.distance for kept in beam), default=float("inf"))
        wide = FEW if searcher.large else BEAM[size]
        sets = _confirmed(searcher, [*_grown(searcher, beam[:wide]), *(added if size == 2 else ())])
        for kept in sets:
            if floor.explains(kept.distance, mutants := _mutants(kept)):
                return _needed(searcher, kept, floor, mutants)
        worth = [kept for kept in sets[:3] if not searcher.large or kept.distance <= WORTH_FITTING * floor.to_reference]
        fitted = [_fitted(searcher, kept, floor) for kept in worth if any(catalog_ranges(name) for name in kept.names)]
        for bugs in fitted:
            if floor.explains(bugs[0].distance, bugs):
                return bugs
        if not sets or not sets[0].distance * GAIN <= before:
            return None
        beam = sets
    return None


def _in_one_place(searcher: Searcher) -> bool:
    """Whether the parts of one layer make most of the difference, so that it is no sum of bugs of the whole model."""
    return searcher.layered is not None and searcher.layered.finding() is not None


def _hopeless(searcher: Searcher) -> bool:
    """Whether no few bugs, each as strong as fits, come near the candidate's difference: passes of a large model are spared."""
    sketches = [sketch for _, sketch in searcher.screened if np.isfinite(sketch).all()]
    return explained_by_sums(sketches, searcher.trial.wanted(), MOST) > HOPELESS


def catalog_ranges(name: str) -> dict[str, tuple[float, float]]:
    """The ranges in which a bug's options are searched."""
    return dict(catalog.load("mutations", name).ranges)


def _firsts(searcher: Searcher, ranked: Sequence[Mutant]) -> list[Mutant]:
    """The nearest, and those whose difference points most in the direction of the candidate's, whatever their size."""
    wanted = searcher.trial.wanted()
    pointing = sorted(searcher.screened, key=lambda pair: -_along(pair[1], wanted))
    return one_of_each([*ranked[:3], *(mutant for mutant, _ in pointing[:6])])[: BEAM[2]]


def _grown(searcher: Searcher, beam: Sequence[_Set]) -> Iterator[_Set]:
    """Every bug with every value, on top of each set; those that should fit best first, as many as the budget allows.

    A set that none of the first `TRIED` brings nearer is given up.
    """
    wanted = searcher.trial.wanted()
    for kept in beam:
        have = searcher.trial.screened(kept.bugs)[1]
        order = _likely(searcher, wanted - have)
        nearest = kept.distance
        for place, mutant in enumerate(order[: max((PASSES if searcher.large else searcher.budget) // len(beam), 1)]):
            if place >= TRIED and nearest >= NEARER * kept.distance:
                break
            if mutant.name not in kept.names:
                for grown in _measured(searcher, (*kept.bugs, (mutant.name, dict(mutant.options)))):
                    nearest = min(nearest, grown.distance)
                    yield grown


def _likely(searcher: Searcher, left: np.ndarray) -> list[Mutant]:
    """What was screened, by what of it would do most about what is `left`: in turn by its size, and by its direction alone.

    On top of a bug that changes the hidden state a lot, a second one does what it does alone with another strength.
    """
    sized = sorted(searcher.screened, key=lambda pair: float(np.linalg.norm(left - pair[1])))
    pointing = sorted(searcher.screened, key=lambda pair: -_along(pair[1], left))
    in_turn = [mutant for pairs in zip(sized, pointing, strict=True) for mutant, _ in pairs]
    return list({id(mutant): mutant for mutant in in_turn}.values())


def _along(sketch: np.ndarray, wanted: np.ndarray) -> float:
    """The cosine between two sketches; 0 of one that is nothing, or not finite."""
    size = float(np.linalg.norm(sketch)) * float(np.linalg.norm(wanted))
    return float((sketch * wanted).sum()) / size if size and np.isfinite(size) else 0.0


def _added(searcher: Searcher) -> Iterator[_Set]:
    """The pairs whose differences, added as if neither knew of the other, come nearest to the candidate's."""
    wanted = searcher.trial.wanted().ravel()
    mutants = [mutant for mutant, _ in searcher.screened]
    if not mutants:
        return
    sketches = np.stack([sketch.ravel() for _, sketch in searcher.screened])
    with np.errstate(over="ignore", invalid="ignore"):
        inner, towards = sketches @ sketches.T, sketches @ wanted
        own = np.diag(inner)
        far = own[:, None] + own[None] + 2 * inner - 2 * (towards[:, None] + towards[None])
    far = np.where(np.isfinite(far), far, np.inf)
    rows, columns = np.triu_indices(len(mutants), 1)
    tried = 0
    for place in np.argsort(far[rows, columns], kind="stable"):
        first, second = mutants[rows[place]], mutants[columns[place]]
        if first.name != second.name:
            yield from _measured(searcher, ((first.name, dict(first.options)), (second.name, dict(second.options))))
            tried += 1
        if tried >= (PASSES // FEW if searcher.large else ADDED):
            return


def _measured(searcher: Searcher, bugs: tuple[tuple[str, dict[str, object]], ...]) -> Iterator[_Set]:
    try:
        yield _Set(bugs, searcher.trial.distance(bugs, short=True))
    except Exception:  # bugs may not be plantable together
        return


def _confirmed(searcher: Searcher, sets: Iterator[_Set] | Sequence[_Set]) -> list[_Set]:
    """The nearest sets, one for each choice of names, measured on all sequences."""
    nearest: dict[frozenset[str], _Set] = {}
    for kept in sorted(sets, key=lambda bug_set: bug_set.distance):
        nearest.setdefault(kept.names, kept)
    kept_sets = list(nearest.values())[: FEW if searcher.large else KEPT]
    measured = [_Set(kept.bugs, searcher.trial.distance(kept.bugs)) for kept in kept_sets]
    return sorted(measured, key=lambda bug_set: bug_set.distance)


def _needed(searcher: Searcher, kept: _Set, floor: Floor, mutants: Found) -> Found:
    """The set without those of its bugs that it explains as well without."""
    for name, _ in kept.bugs:
        fewer = tuple(bug for bug in kept.bugs if bug[0] != name)
        distance = searcher.trial.distance(fewer)
        if len(fewer) > 1 and floor.explains(distance, smaller := _mutants(_Set(fewer, distance))):
            return _needed(searcher, _Set(fewer, distance), floor, smaller)
    return mutants


def _fitted(searcher: Searcher, kept: _Set, floor: Floor) -> Found:
    """The values of all parameters of a set, fitted one after the other, in rounds, while the others stand."""
    bugs, give = list(kept.bugs), dict[str, dict[str, float]]()
    for _ in range(ROUNDS):
        for place, (name, options) in enumerate(bugs):
            for key, (low, high) in catalog_ranges(name).items():
                others = tuple(bug for index, bug in enumerate(bugs) if index != place)
                far = Far(searcher.trial, others, name, key)
                value = options.get(key, getattr(catalog.load("mutations", name), key))
                near = [value] if isinstance(value, int | float) else []
                first = name not in give
                scanned = scan(far, low, high, near, whole=far.whole) if first else _around(far, float(near[0]))
                fitted = searcher.fit(far, scanned, floor)
                bugs[place], give[name] = (name, dict(fitted.options)), dict(fitted.uncertainty)
    distance = searcher.trial.distance(bugs)
    return tuple(Mutant(name, options, distance, give.get(name, {})) for name, options in bugs)


def _around(far: Far, value: float) -> list[tuple[float, float]]:
    """A narrow scan about a value that was fitted before."""
    if far.whole:
        return scan(far, max(value - 2, 1), value + 2, whole=True)
    points = np.linspace(np.log(value * 0.8), np.log(value * 1.25), 7)
    return [(float(point), far(float(np.exp(point)))) for point in points]


def _mutants(kept: _Set) -> Found:
    return tuple(Mutant(name, options, kept.distance) for name, options in kept.bugs)
