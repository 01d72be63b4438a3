"""The search for one bug: every bug of the library with every value that occurs, then values between, then single places."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from logitproof import catalog
from logitproof.diagnosis.found import Mutant
from logitproof.diagnosis.layers import OF_LARGE, SUMS, InLayers, in_layers
from logitproof.diagnosis.noise import Floor
from logitproof.diagnosis.trial import SMALL, Trial
from logitproof.reference.planted import DECODE_NEEDS, ONLY_LAYER, PREFILL_NEEDS, Bugs, grid, showing
from logitproof.reference.search import refine, scan

CONFIRMED = 12
SEARCHED = 6
"""Nearest parameters whose values are searched between those of the grid."""
DIGITS = (2, 3, 4, 6)
"""A fitted value is told in as few digits as leave no more than `ROUNDED` times what the best leaves."""
ROUNDED = 1.1
FITTED = 34
"""Golden-section steps of a value that may be the whole answer."""
NEAR = 40
"""Bugs of a single place that are tried beside others."""
PASSES, WEIGHTS, LEAST = 3000, SMALL, 100
"""Forward passes that one stage of a search may take on a model of so many weights; fewer on a larger one, `LEAST` on any."""
FEW = 4
"""The same for what a large model is given less of: parameters that are searched, steps of a search, and what is confirmed."""
FAR_OFF = 2.0
"""How many times farther than the nearest a bug of a large model is where it is not confirmed on everything."""


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
        pointing = self._pointing()
        for name, kind in self.applicable():
            if pointing and name not in pointing:
                continue
            for key, (low, high) in kind.ranges.items():
                if kind().applies(self.trial.planted.config):
                    far = Far(self.trial, (), name, key)
                    scans.append((scan(far, low, high, kind.grid.get(key, ()), whole=far.whole), far))
        near = sorted(scans, key=lambda scanned: min(distance for _, distance in scanned[0]))
        return [self.fit(far, scanned, floor) for scanned, far in near[: SEARCHED // FEW if self.large else SEARCHED]]

    def _pointing(self) -> set[str]:
        """Of a large model, the few bugs with a range whose difference points most in the direction of the candidate's.

        A value that is not in the grid changes the size of a difference more than where it points to.
        """
        if not self.large:
            return set()
        wanted = self.trial.wanted().ravel()
        towards: dict[str, float] = {}
        for mutant, sketch in self.screened:
            if catalog.load("mutations", mutant.name).ranges:
                size = float(np.linalg.norm(sketch)) * float(np.linalg.norm(wanted))
                towards[mutant.name] = max(
                    towards.get(mutant.name, 0.0), float(sketch.ravel() @ wanted) / size if size else 0.0
                )
        return set(sorted(towards, key=lambda name: -towards[name])[:FEW])

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
        rounded = value if far.whole else _rounded(far, value, max(ROUNDED * far(value), floor.quiet / 2))
        options = dict.fromkeys((far.key,), rounded)
        distance = self.trial.distance([*far.others, (far.name, options)])
        return Mutant(far.name, options, distance, {far.key: uncertainty(far, rounded, floor.limit)})

    def places(self, ranked: Sequence[Mutant]) -> list[Mutant]:
        """Bugs of one instance (a layer, a head, a token, a slot), at every place that the model has, as the budget allows."""
        tried: list[tuple[Mutant, np.ndarray]] = []
        for count, (name, options) in enumerate(self._instances(ranked)):
            if count >= self.budget:
                self.skipped.append(f"single places: {self.budget} were tried, the model has more")
                break
            mutant, sketch = self._measured(name, options)
            if mutant is not None:
                tried.append((mutant, sketch))
        tried.sort(key=lambda pair: pair[0].distance)
        self.screened += tried[:NEAR]
        return self.confirmed([mutant for mutant, _ in tried])

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

    def _instances(self, ranked: Sequence[Mutant]) -> Iterator[tuple[str, dict[str, Any]]]:
        """Places that mutations name themselves, then every bug of a layer in one layer alone, the nearest bugs first."""
        from logitproof.reference.shared import OF_ONE_LAYER

        config, tokens = self.trial.planted.config, sorted({token for ids in self.trial.planted.sequences for token in ids})
        kinds = list(self.applicable())
        for name, kind in kinds:
            if kind().applies(config):
                yield from ((name, options) for options in kind().instances(config, tokens))
        if self.trial.planted.layers < 2 or (self.large and self.layered is not None):
            return
        order = {mutant.name: place for place, mutant in enumerate(ranked)}
        inside = [
            (name, kind)
            for name, kind in kinds
            if kind.first_tap.startswith("layers.") and not set(OF_ONE_LAYER) & {option.name for option in fields(kind)}
        ]
        for name, kind in sorted(inside, key=lambda pair: order.get(pair[0], len(order))):
            for options in grid(kind):
                if kind(**options).applies(config):
                    for layer in range(self.trial.planted.layers):
                        yield name, {**options, ONLY_LAYER: layer}


def screen(searchers: Sequence[Searcher]) -> None:
    """Try every applicable bug with every value of its grid, planted once for all searchers of one model and its tokens.

    A bug that cannot be planted is noted as skipped by each, and ends the search for none of the others.
    """
    config = searchers[0].trial.planted.config
    asked = [dict(searcher.applicable()) for searcher in searchers]
    for name, kind in {name: kind for kinds in asked for name, kind in kinds.items()}.items():
        asking = [searcher for searcher, kinds in zip(searchers, asked, strict=True) if name in kinds]
        try:
            for options in grid(kind):
                if kind(**options).applies(config):
                    _screen(asking, name, options)
        except Exception as error:  # a mutation that cannot be planted here must not end the diagnosis of the others
            for searcher in asking:
                searcher.skipped.append(f"{name}: {type(error).__name__}: {error}")


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


@dataclass(frozen=True)
class Far:
    """How far bugs are from the candidate on the screened positions, as a function of one parameter of one of them."""

    trial: Trial
    others: Bugs
    name: str
    key: str

    @property
    def whole(self) -> bool:
        """Whether the parameter is a whole number."""
        return bool(catalog.load("mutations", self.name).is_whole(self.key))

    def __call__(self, value: float) -> float:
        try:
            return self.trial.distance([*self.others, (self.name, {self.key: value})], short=True)
        except (RuntimeError, ValueError):  # a value at the end of a range may not be plantable in this model
            return math.inf


def _rounded(far: Far, value: float, limit: float) -> float:
    """The value in as few digits as come no farther than `limit`."""
    short = (float(f"{value:.{digits}g}") for digits in DIGITS)
    return next((candidate for candidate in short if far(candidate) <= limit), float(f"{value:.6g}"))


def uncertainty(far: Far, value: float, noise: float) -> float:
    """How far the value may be off until the logits move by `noise`, by the curvature of the squared distance at it.

    Of a whole number 0 where its neighbours do: then it is known.
    """
    step: float = 1 if far.whole else 1e-3 * abs(value)
    here, above, below = far(value), far(value + step), far(value - step)
    bend = (above**2 + below**2 - 2 * here**2) / (2 * step**2)
    if far.whole and min(above, below) ** 2 - here**2 > noise**2:
        return 0.0
    return noise / math.sqrt(bend) if bend > 0 and math.isfinite(bend) else abs(value)


def one_of_each(mutants: Sequence[Mutant]) -> list[Mutant]:
    """The nearest value of each mutation."""
    nearest: dict[str, Mutant] = {}
    for mutant in mutants:
        nearest.setdefault(mutant.name, mutant)
    return list(nearest.values())
