"""Which layer, and which bug in one layer alone: by how the logits answer to what each layer could disturb.

A few passes foretell, to first order, what every bug would do from every layer (`reference/response.py`). Those that foretell
the candidate's difference best are planted and measured; what no bug explains is told to lie in the layer whose parts explain
most of it, where that layer stands out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from logitproof import catalog
from logitproof.diagnosis.found import Finding, Mutant
from logitproof.diagnosis.trial import Trial
from logitproof.reference.planted import ONLY_LAYER

SUMS, OF_LARGE = 128, 32
"""Weighted sums of the logits that are foretold: the fewest tell some ten thousand places apart, more tell layers apart."""
TRIED = 32
"""Bugs in one layer that are planted after they were foretold."""
ALIKE, FEW = 4, 12
"""Places of one of them, and as many of all in a model of many layers."""
APART = 3
"""Layers between two that are taken for each other, in a model with many."""
MANY = 12
WORTH = 0.5
"""Share of the difference that the parts of a layer must explain for the layer to be named."""
SETTINGS = 48
"""Options of one bug, but for the layer, that are foretold."""
COPIED, EXCHANGED = "weights.tensor_of_another_layer", "weights.tensors_exchanged"
LOOKED_INTO = 6
"""Layers whose parts explain most, in which every bug is foretold; its parts are in all."""
LIKELY = 2
"""Layers whose parts explain most, of which each tensor is tried that another layer has."""
STANDS_OUT = 0.75
"""What the layer leaves, over what the next one leaves, at most."""
PARTS = ("weights.tensor_dropped", "attention.head_dead")
"""Bugs whose disturbances are the parts of a layer: each of its blocks taken away, each head."""


@dataclass(frozen=True)
class Foretold:
    """A bug in one layer, and the sums [S] that it would change."""

    name: str
    options: Mapping[str, Any]
    layers: tuple[int, ...]
    sums: np.ndarray

    def left(self, wanted: np.ndarray) -> float:
        """The share of the wanted sums that it leaves; a large bug is weaker or stronger than foretold, so its size is free."""
        size = float(self.sums @ self.sums)
        plain = float(np.linalg.norm(wanted - self.sums))
        free = float(np.linalg.norm(wanted - (self.sums @ wanted) / size * self.sums)) if size else plain
        return min(plain, free if self.sums @ wanted > 0 else plain) / float(np.linalg.norm(wanted))


@dataclass(frozen=True)
class InLayers:
    """Everything that was foretold of one candidate, whose sums are `wanted` [S]."""

    wanted: np.ndarray
    all: tuple[Foretold, ...]
    layers: int

    def with_more(self, bugs: Iterator[Foretold], name: str, skipped: list[str]) -> InLayers:
        """The same and what else can be foretold; a bug that cannot be planted in one layer ends no search for the others."""
        more: list[Foretold] = []
        try:
            more += bugs
        except Exception as error:
            skipped.append(f"{name} in one layer: {type(error).__name__}: {error}")
        kept = [bug for bug in more if np.isfinite(bug.sums).all() and bug.sums.any()]
        return replace(self, all=(*self.all, *kept))

    def best(self) -> list[Foretold]:
        """Those that leave least, of no bug more than `ALIKE`."""
        counts: dict[str, int] = {}
        best = []
        for bug in sorted(self.all, key=lambda bug: bug.left(self.wanted)):
            counts[bug.name] = counts.get(bug.name, 0) + 1
            if counts[bug.name] <= ALIKE:
                best.append(bug)
        return best[: FEW if self.layers > MANY else TRIED]

    def shares(self) -> np.ndarray:
        """By layer [L], the share of the difference that its parts explain, less what as many random ones would."""
        shares = np.zeros(self.layers)
        for layer in range(self.layers):
            basis = [bug.sums for bug in self.all if bug.layers == (layer,) and bug.name in PARTS and bug.sums.any()]
            if not basis:
                continue
            left, directions, _ = np.linalg.svd(np.stack(basis, axis=1), full_matrices=False)
            left = left[:, directions > 1e-6 * directions[0]]
            fitted = float(np.sum((left.T @ self.wanted) ** 2) / (self.wanted @ self.wanted))
            spare = len(self.wanted) - left.shape[1]
            shares[layer] = 1.0 - (1.0 - fitted) * len(self.wanted) / spare if spare > 0 else 0.0
        return shares

    def likely(self) -> list[int]:
        """The few layers whose parts explain most, the first most."""
        return [int(layer) for layer in np.argsort(-self.shares())[:LOOKED_INTO]]

    def finding(self) -> Finding | None:
        """The layer whose parts explain most of the difference, where no other explains nearly as much."""
        shares = self.shares()
        layer, second = (int(place) for place in np.argsort(-shares)[:2])
        if not shares[layer] >= WORTH or not 1.0 - shares[layer] <= STANDS_OUT * (1.0 - shares[second]):
            return None
        inside = [bug for bug in self.all if bug.layers == (layer,)]
        like = min(inside, key=lambda bug: bug.left(self.wanted))
        text = (
            f"one layer's worth: the parts of layer {layer} make {100 * shares[layer]:.0f} % of it, those of the next best, "
            f"layer {second}, {100 * max(shares[second], 0.0):.0f} %; most like {Mutant(like.name, like.options, 0.0)}"
        )
        evidence = {"layer": layer, "share": float(shares[layer]), "second": second, "second_share": float(shares[second])}
        return Finding("one layer", text, evidence | {"like": like.name})


def in_layers(trial: Trial, applicable: Iterable[tuple[str, Any]], sums: int, skipped: list[str]) -> InLayers | None:
    """Every bug of a layer, foretold in each; None of logits that are not whole, and of models that allow no such passes."""
    if not trial.whole or trial.planted.layers < 2:
        return None
    change = trial.candidate[0][: trial.glanced] - trial.right[0][: trial.glanced]
    change = change - change.mean(axis=1, keepdims=True)
    try:
        response = trial.planted.response(trial.glanced, sums)
    except Exception as error:  # a family whose layers take more than a hidden state is diagnosed without them
        skipped.append(f"layers: {type(error).__name__}: {error}")
        return None
    wanted = response.of_logits(change)
    if not np.isfinite(wanted).all() or not wanted.any():
        return None
    kinds = {
        name: kind
        for name, kind in applicable
        if kind.first_tap.startswith("layers.") and kind.needs != "decode" and kind().applies(trial.planted.config)
    }
    foretold = InLayers(wanted, (), trial.planted.layers)
    every = range(trial.planted.layers)
    for name in (name for name in PARTS if name in kinds):
        foretold = foretold.with_more(_of_bug(trial, response, name, every), name, skipped)
    order = foretold.likely()
    for name in (name for name in kinds if name not in PARTS):
        foretold = foretold.with_more(_of_bug(trial, response, name, order), name, skipped)
    if {COPIED, EXCHANGED} <= kinds.keys():
        for layer in order[:LIKELY]:
            foretold = foretold.with_more(_of_tensors(trial, response, layer), COPIED, skipped)
    return foretold


def _of_bug(trial: Trial, response: Any, name: str, layers: Sequence[int]) -> Iterator[Foretold]:
    """One bug in each of the layers, or in each two; a tensor of two layers is foretold of the likely ones alone."""
    kind = catalog.load("mutations", name)
    keys, planted = {option.name for option in fields(kind)}, trial.planted
    if name in (COPIED, EXCHANGED):
        return
    if "first" in keys:
        yield from _of_twins(trial, response, name, layers)
        return
    if "layer" not in keys:
        sums = planted.foretold_of(response, name, layers)
        yield from (Foretold(name, {ONLY_LAYER: layer}, (layer,), sums[layer]) for layer in layers)
        return
    for options in _settings(trial, kind):
        bugs = {layer: (name, {**options, "layer": layer}) for layer in layers}
        sums = planted.foretold(response, bugs)
        yield from (Foretold(name, bugs[layer][1], (layer,), sums[layer]) for layer in layers)


def _settings(trial: Trial, kind: Any) -> list[dict[str, Any]]:
    """The options of a bug of one layer, but for the layer."""
    tokens = sorted({token for ids in trial.planted.sequences for token in ids})
    settings: dict[tuple[tuple[str, Any], ...], dict[str, Any]] = {}
    for options in kind().instances(trial.planted.config, tokens):
        setting = {key: value for key, value in options.items() if key != "layer"}
        settings.setdefault(tuple(setting.items()), setting)
        if len(settings) >= SETTINGS:
            break
    return list(settings.values())


def _of_twins(trial: Trial, response: Any, name: str, layers: Sequence[int]) -> Iterator[Foretold]:
    """A bug in two layers, one of which is one of these: to first order the sum of what it does in each."""
    config, halves = trial.planted.config, dict[tuple[int, int], np.ndarray]()
    every = {(options["first"], options["second"]) for options in catalog.load("mutations", name)().instances(config, ())}
    pairs = {pair for pair in every if set(pair) & set(layers)}
    apart = APART if response.layers > MANY else response.layers
    for distance in sorted({second - first for first, second in pairs if abs(second - first) <= apart}):
        for at in (0, 1):
            pair_of = {pair[at]: pair for pair in pairs if pair[1] - pair[0] == distance}
            bugs = {layer: (name, {"first": pair[0], "second": pair[1]}) for layer, pair in pair_of.items()}
            sums = trial.planted.foretold(response, bugs)
            for layer, pair in pair_of.items():
                halves[pair] = halves.get(pair, np.zeros(response.sums)) + sums[layer]
    for pair, together in halves.items():
        yield Foretold(name, {"first": pair[0], "second": pair[1]}, pair, together)


def _of_tensors(trial: Trial, response: Any, layer: int) -> Iterator[Foretold]:
    """One matrix of a layer that is another layer's, or that the two have exchanged; layers that idle cost next to nothing."""
    partners = [number for number in range(response.layers) if number != layer]
    tensors = {options["tensor"] for options in _settings(trial, catalog.load("mutations", COPIED))}
    for tensor in sorted(tensor for tensor in tensors if tensor.endswith("_proj.weight")):
        given = {partner: (COPIED, {"first": layer, "second": partner, "tensor": tensor}) for partner in partners}
        there = trial.planted.foretold(response, given)
        for partner in partners:
            taken = {"first": partner, "second": layer, "tensor": tensor}
            here = trial.planted.foretold(response, {layer: (COPIED, taken)})[layer]
            yield Foretold(COPIED, taken, (layer,), here)
            first, second = sorted((layer, partner))
            pair = {"first": first, "second": second, "tensor": tensor}
            yield Foretold(EXCHANGED, pair, (first, second), here + there[partner])


def explained_by_sums(sketches: Sequence[np.ndarray], wanted: np.ndarray, count: int) -> float:
    """The share of a wanted difference that is left by the best `count` of others, each as strong as fits: at least what any
    set of so many bugs leaves that do not act on each other.
    """
    left = wanted.ravel().astype(np.float64)
    whole = float(np.linalg.norm(left))
    if not sketches or not whole:
        return 1.0
    columns = np.stack([sketch.ravel() for sketch in sketches], axis=1).astype(np.float64)
    columns /= np.maximum(np.linalg.norm(columns, axis=0), 1e-30)
    chosen: list[int] = []
    for _ in range(count):
        chosen.append(int(np.abs(columns.T @ left).argmax()))
        basis = columns[:, chosen]
        left = wanted.ravel() - basis @ np.linalg.lstsq(basis, wanted.ravel(), rcond=None)[0]
    return float(np.linalg.norm(left)) / whole
