"""The search for one bug: every bug of the library with every value that occurs, then values between, then single places."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from logitproof import catalog
from logitproof.diagnosis.far import Far, rounded_to, uncertainty
from logitproof.diagnosis.found import Mutant
from logitproof.diagnosis.layers import OF_LARGE, SUMS, InLayers, in_layers
from logitproof.diagnosis.noise import Floor
from logitproof.diagnosis.trial import SMALL, Trial
from logitproof.reference.planted import DECODE_NEEDS, ONLY_LAYER, PREFILL_NEEDS, grid, showing
from logitproof.reference.search import refine, scan

CONFIRMED = 12
SEARCHED = 6
"""Nearest parameters whose values are searched between those of the grid."""
ROUNDED = 1.1
"""How many times as far as the best a value of fewer digits may be."""
FITTED = 34
"""Golden-section steps of a value that may be the whole answer."""
NEAR = 40
"""Bugs of a single place that are tried beside others."""
PASSES, WEIGHTS, LEAST = 3000, SMALL, 100
"""Forward passes that one stage of a search may take on a model of so many weights; fewer on a larger one, `LEAST` on any."""
FEW = 4
"""The same for what a large model is given less of: parameters that are searched, steps of a search, and what is confirmed."""
POINTING = 0.25
"""How far a bug must point in the direction of the candidate's difference for a large model to be tried with more values."""
SWEPT = 3e8
"""Weights up to which every range is scanned: a strong bug, such as a large epsilon, points elsewhere at its default value."""
FAR_OFF = 2.0
"""How many times farther than the nearest a bug of a large model is where it is not confirmed on everything."""


BEGINNING = ("slot", "window")
"""Options that say at which position a bug shows first, up to `AROUND`: only where the difference begins are they tried."""
AROUND = 2
IN_ONE_LAYER = 24
"""Places of one bug that are tried in each layer alone, too."""


@dataclass
class Searcher:
    """Bugs that logits of this mode can show, tried on one candidate. `skipped` are those that cannot be planted here."""

    trial: Trial
    leave_out: Sequence[str] = ()
    screened: list[tuple[Mutant, np.ndarray]] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    layered: InLayers | None = None

    @property
    def large(self) -> bool:
        """Whether a pass of the model costs so much that few are made."""
        return self.trial.planted.weights > SMALL

    @property
    def budget(self) -> int:
        """Passes of one stage: a large model is given fewer, the square of its size over that of a small one."""
        return max(LEAST, int(PASSES * min(1.0, (WEIGHTS / self.trial.planted.weights) ** 2)))

    def singles(self) -> list[Mutant]:
        """Every applicable bug with every value of its grid is screened; the nearest values of the nearest, confirmed."""
        if not self.screened:
            screen([self])
        return self.confirmed([mutant for mutant, _ in self.screened])

    def confirmed(self, mutants: Sequence[Mutant]) -> list[Mutant]:
        """The nearest value of each of the nearest bugs, measured on all sequences; nearest first."""
        near = one_of_each(sorted(mutants, key=lambda mutant: mutant.distance))[:CONFIRMED]
        if self.large:
            near = [bug for number, bug in enumerate(near) if number < 2 or bug.distance <= FAR_OFF * near[0].distance][:FEW]
        measured = [Mutant(bug.name, bug.options, self.trial.distance([(bug.name, bug.options)])) for bug in near]
        return sorted(measured, key=lambda mutant: mutant.distance)

    def fitted(self, floor: Floor) -> list[Mutant]:
        """The nearest values of parameters between the ends that their mutations name, where the grid has missed.

        Every range is scanned on the screened positions; a golden section in the value's logarithm follows in the best ones.
        """
        scans = []
        pointing = self._pointing() if self.trial.planted.weights > SWEPT else None
        for name, kind in self.applicable():
            if pointing is not None and name not in pointing:
                continue
            for key, (low, high) in kind.ranges.items():
                if kind().applies(self.trial.planted.config):
                    far = Far(self.trial, (), name, key)
                    scans.append((scan(far, low, high, kind.grid.get(key, ()), whole=far.whole), far))
        near = sorted(scans, key=lambda scanned: min(distance for _, distance in scanned[0]))
        return [self.fit(far, scanned, floor) for scanned, far in near[: SEARCHED // FEW if self.large else SEARCHED]]

    def _pointing(self) -> set[str]:
        """Of a model beyond `SWEPT`, the few bugs with a range that point most in the direction of the candidate's difference.

        A value that is not in the grid changes the size of a difference more than where it points to.
        """
        towards = {name: share for name, share in self.towards().items() if catalog.load("mutations", name).ranges}
        near = [name for name in sorted(towards, key=lambda name: -towards[name]) if towards[name] >= POINTING]
        return set(near[:FEW])

    def towards(self) -> dict[str, float]:
        """How far each bug that was tried points in the direction of the candidate's difference: 1 is straight at it.

        A bug that changed nothing of what was looked at counts as 1, for another value may.
        """
        wanted = self.trial.wanted().ravel()
        size, towards = float(np.linalg.norm(wanted)), dict[str, float]()
        for mutant, sketch in self.screened:
            length = float(np.linalg.norm(sketch))
            share = float(sketch.ravel() @ wanted) / (length * size) if length and size else 1.0
            towards[mutant.name] = max(towards.get(mutant.name, -1.0), share)
        return towards

    def in_one_layer(self) -> list[Mutant]:
        """Bugs in one layer, or two: those whose effect, foretold for every layer, is most like the candidate's difference."""
        self.layered = in_layers(self.trial, self.applicable(), OF_LARGE if self.large else SUMS, self.skipped)
        if self.layered is None:
            return []
        tried = [self._measured(bug.name, bug.options) for bug in self.layered.best()]
        kept = [(mutant, sketch) for mutant, sketch in tried if mutant is not None]
        kept.sort(key=lambda pair: pair[0].distance)
        self.screened += kept[:NEAR]
        return self.confirmed([mutant for mutant, _ in kept])

    def fit(self, far: Far, scanned: Sequence[tuple[float, float]], floor: Floor) -> Mutant:
        """The value of least distance, in as few digits as it is known to, with its uncertainty."""
        value = refine(far, scanned, FITTED // 2 if self.large else FITTED, whole=far.whole)
        rounded = value if far.whole else rounded_to(far, value, max(ROUNDED * far(value), floor.quiet / 2))
        options = dict.fromkeys((far.key,), rounded)
        distance = self.trial.distance([*far.others, (far.name, options)])
        return Mutant(far.name, options, distance, {far.key: uncertainty(far, rounded, floor.limit)})

    def places(self, ranked: Sequence[Mutant], limit: float) -> list[Mutant]:
        """Bugs of one instance (a layer, a head, a token, a slot), at every place that the model has, as the budget allows.

        `limit` is the RMS in logits up to which a position is noise: a slot or a window is tried where the difference begins.
        """
        tried: list[tuple[Mutant, np.ndarray]] = []
        for count, (name, options) in enumerate(self._instances(ranked, limit)):
            if count >= self.budget:
                self.skipped.append(f"single places: {self.budget} were tried, the model has more")
                break
            mutant, sketch = self._measured(name, options)
            if mutant is not None:
                tried.append((mutant, sketch))
        tried.sort(key=lambda pair: pair[0].distance)
        self.screened += tried[:NEAR]
        return self.confirmed([mutant for mutant, _ in tried])

    def placed(self, mutant: Mutant, limit: float) -> Mutant:
        """The same bug with its place, where it was tried at one that its options do not say."""
        kind = catalog.load("mutations", mutant.name)
        tokens = sorted({token for ids in self.trial.planted.sequences for token in ids})
        for options in itertools.islice(kind().instances(self.trial.planted.config, tokens), IN_ONE_LAYER):
            if set(options) <= set(mutant.options):
                return mutant
            with_place = {**mutant.options, **options}
            near = self._measured(mutant.name, with_place)[0]
            if near is not None and near.distance <= limit:
                distance = self.trial.distance([(mutant.name, with_place)])
                return Mutant(mutant.name, with_place, distance) if distance <= limit else mutant
        return mutant

    def applicable(self) -> Iterator[tuple[str, Any]]:
        """Mutations that logits of this mode can show, of which none is proven to show nothing."""
        needs = DECODE_NEEDS if self.trial.mode == "decode" else PREFILL_NEEDS
        return ((name, kind) for name, kind in showing(needs) if name not in self.leave_out)

    def _measured(self, name: str, options: Mapping[str, Any]) -> tuple[Mutant | None, np.ndarray]:
        try:
            far, sketch = self.trial.screened([(name, options)])
        except Exception:
            return None, np.empty(0)
        return Mutant(name, options, far), sketch

    def _instances(self, ranked: Sequence[Mutant], limit: float) -> Iterator[tuple[str, dict[str, Any]]]:
        """Places that mutations name themselves, one of each in turn, then every bug of a layer in one layer alone, the nearest
        bugs first.
        """
        kinds = [(name, kind) for name, kind in self.applicable() if kind().applies(self.trial.planted.config)]
        begins = self._begins(limit)
        if self.large and self.layered is not None:
            # what was foretold is not tried again, but for layers that do nothing: that is too much to be foretold well
            for name, kind in kinds:
                if not is_of_layers(kind):
                    yield from self._own_places(name, kind, begins)
                elif {option.name for option in fields(kind)} == {"layer"}:
                    yield from ((name, {"layer": layer}) for layer in self.layered.likely())
            return
        yield from in_turn([self._own_places(name, kind, begins) for name, kind in kinds])
        if self.trial.planted.layers < 2:
            return
        order = {mutant.name: place for place, mutant in enumerate(ranked)}
        inside = [(name, kind) for name, kind in kinds if kind.first_tap.startswith("layers.") and not is_of_layers(kind)]
        for name, kind in sorted(inside, key=lambda pair: order.get(pair[0], len(order))):
            further = [options for _, options in self._own_places(name, kind, begins)]
            for options in [*grid(kind), *further[:IN_ONE_LAYER]]:
                if kind(**options).applies(self.trial.planted.config):
                    for layer in range(self.trial.planted.layers):
                        yield name, {**options, ONLY_LAYER: layer}

    def _own_places(self, name: str, kind: Any, begins: int) -> Iterator[tuple[str, dict[str, Any]]]:
        """The places that a mutation names, without those that would show first at another position than the difference."""
        tokens = sorted({token for ids in self.trial.planted.sequences for token in ids})
        for options in kind().instances(self.trial.planted.config, tokens):
            if all(abs(int(options[key]) - begins) <= AROUND for key in BEGINNING if key in options):
                yield name, options

    def _begins(self, limit: float) -> int:
        """The first position of any sequence at which the difference is above `limit`."""
        firsts = [int(np.argmax(apart > limit)) for apart in self.trial.by_position() if (apart > limit).any()]
        return min(firsts, default=0)


def screen(searchers: Sequence[Searcher]) -> None:
    """Try every applicable bug with every value of its grid, planted once for all searchers of one model and its tokens.

    In a large model those bugs alone are tried with more values than one that point where some candidate's difference does.
    """
    asked = [dict(searcher.applicable()) for searcher in searchers]
    kinds = {name: kind for of_searcher in asked for name, kind in of_searcher.items()}
    for further in (False, True):
        pointing = _pointing_of_some(searchers) if further and searchers[0].large else kinds.keys()
        for name in (name for name in kinds if name in pointing):
            asking = [searcher for searcher, of_searcher in zip(searchers, asked, strict=True) if name in of_searcher]
            _screen_values(asking, name, kinds[name], further)


def _pointing_of_some(searchers: Sequence[Searcher]) -> set[str]:
    towards = [searcher.towards() for searcher in searchers]
    return {name for shares in towards for name, share in shares.items() if share >= POINTING}


def _screen_values(searchers: Sequence[Searcher], name: str, kind: Any, further: bool) -> None:
    """Try the default of a bug, or all `further` values of its grid.

    A bug that cannot be planted is noted as skipped by each, and ends the search for none of the others.
    """
    config, values = searchers[0].trial.planted.config, list(grid(kind))
    try:
        for options in values[1:] if further else values[:1]:
            if kind(**options).applies(config):
                # what is named is named with its value, also where that is the default
                _screen(searchers, name, {key: getattr(kind, key) for key in kind.grid} | options)
    except Exception as error:  # a mutation that cannot be planted here must not end the diagnosis of the others
        for searcher in searchers:
            if (skipped := f"{name}: {type(error).__name__}: {error}") not in searcher.skipped:
                searcher.skipped.append(skipped)


def _screen(searchers: Sequence[Searcher], name: str, options: Mapping[str, Any]) -> None:
    bugs = [(name, options)]
    ways: dict[bool, list[Searcher]] = {}
    for searcher in searchers:
        ways.setdefault(searcher.trial.goes_through_the_cache(bugs), []).append(searcher)
    for alike in ways.values():
        # one pass over the most positions that any of them looks at: the others read the beginning of its rows
        longest = max(searcher.trial.glanced for searcher in alike)
        passed = alike[0].trial.logits(bugs, beginning=longest)
        # those that look at as many positions have one sketch: making it costs more than comparing does
        trials = {searcher.trial.glanced: searcher.trial for searcher in alike}
        sketches = {glanced: trial.sketched(passed) for glanced, trial in trials.items()}
        for searcher in alike:
            far = searcher.trial.screened_as(passed)
            searcher.screened.append((Mutant(name, options, far), sketches[searcher.trial.glanced]))


def is_of_layers(kind: Any) -> bool:
    """Whether a mutation has options that number the layers it is in."""
    from logitproof.reference.shared import OF_ONE_LAYER

    return bool(set(OF_ONE_LAYER) & {option.name for option in fields(kind)})


def in_turn(places: Sequence[Iterator[tuple[str, dict[str, Any]]]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The first of each, then the second of each, and so on, so that a bug of many places keeps no other from being tried."""
    left = list(places)
    while left:
        for place in list(left):
            if (instance := next(place, None)) is None:
                left.remove(place)
            else:
                yield instance


def one_of_each(mutants: Sequence[Mutant]) -> list[Mutant]:
    """The nearest value of each mutation."""
    nearest: dict[str, Mutant] = {}
    for mutant in mutants:
        nearest.setdefault(mutant.name, mutant)
    return list(nearest.values())
