"""Which known bug makes the candidate's tensor of its own input: every one that touches the tap is tried there.

Unlike a diagnosis from logits, nothing before the operation and nothing after it blurs the answer.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from logitproof import catalog
from logitproof.localization.localize import LIMIT, expected, relative
from logitproof.protocol import taps
from logitproof.protocol.precision import Precision
from logitproof.reference.planted import PREFILL_NEEDS, Bugs, Planted, grid
from logitproof.reference.search import refine, scan

STEPS = 34
"""Golden-section steps: float32 tells two values apart that are as near as its rounding."""
DIGITS = (3, 4, 6, 9)
"""A value is told in as few digits as explain the tap."""


@dataclass(frozen=True)
class Hypothesis:
    """One known bug at one tap: how far its tensor is from the candidate's, relative."""

    tap: str
    mutation: str
    options: Mapping[str, Any]
    residual: float
    explains: bool
    remedy: str

    def __str__(self) -> str:
        shown = ", ".join(f"{key} = {value}" for key, value in self.options.items())
        return f"{self.mutation}{f' ({shown})' if shown else ''}"


def hypotheses(
    model: Path,
    token_ids: Sequence[int],
    candidate: Mapping[str, np.ndarray],
    broken: Sequence[str],
    precision: Precision,
    *,
    weights: Path | None = None,
    piece: int = 0,
) -> list[Hypothesis]:
    """Every bug that changes one of the broken taps, the best first for each tap. Needs transformers.

    `model` is an HF folder, `weights` the GGUF file whose weights the candidate computes with, if they are not the folder's.
    A candidate that takes `piece` tokens at a time may have bugs that show between pieces alone.
    """
    planted = Planted.opened(model, [token_ids], weights)
    trials = _Trials(planted, dict(candidate), list(broken), precision, piece)
    suspects = [
        suspect for name in catalog.entries("mutations") for suspect in trials.tried(name, catalog.load("mutations", name))
    ]
    for tap in broken:
        if not any(suspect.tap == tap and suspect.explains for suspect in suspects):
            near = sorted((suspect for suspect in suspects if suspect.tap == tap), key=lambda suspect: suspect.residual)
            suspects += trials.searched(tap, list(dict.fromkeys(suspect.mutation for suspect in near)))
    planted.close()
    best: dict[tuple[str, str], Hypothesis] = {}
    for suspect in sorted(suspects, key=lambda suspect: suspect.residual):
        best.setdefault((suspect.tap, suspect.mutation), suspect)
    return sorted(best.values(), key=lambda suspect: (taps.order(suspect.tap), suspect.residual))


class _Trials:
    """The reference, replayed on the candidate's taps with one bug or another."""

    def __init__(
        self, planted: Planted, candidate: dict[str, np.ndarray], broken: list[str], precision: Precision, piece: int
    ) -> None:
        self._planted, self._candidate, self._broken, self._precision = planted, candidate, broken, precision
        self._piece, self._needs = piece, (*PREFILL_NEEDS, "chunked prefill") if piece else PREFILL_NEEDS
        self._right = planted.replay(broken, candidate, size=piece)

    def _wrong(self, bugs: Bugs) -> dict[str, np.ndarray]:
        """What the broken taps are with the bugs; nothing where they cannot be planted in this model."""
        try:
            return self._planted.replay(self._broken, self._candidate, bugs, size=self._piece)
        except Exception:  # a bug that cannot be planted here is no hypothesis
            return {}

    def tried(self, name: str, kind: Any) -> Iterator[Hypothesis]:
        """A bug with every value of its grid, at every broken tap that it changes."""
        if kind.needs not in self._needs or not kind().applies(self._planted.config):
            return
        for options in grid(kind):
            yield from self._compared(name, options, kind, self._wrong([(name, options)]))
        if kind.exchanges is not None:
            exchanged = self._planted.replay(self._broken, self._exchanged(*kind.exchanges), size=self._piece)
            yield from self._compared(name, {}, kind, exchanged)

    def _exchanged(self, first: str, second: str) -> dict[str, np.ndarray]:
        """The candidate's taps with two of each layer exchanged: an engine may name both rightly and then mistake them."""
        given = dict(self._candidate)
        for name in self._candidate:
            layer, leaf = taps.split(name)
            if leaf == first and (partner := f"layers.{layer}.{second}") in self._candidate:
                given[name], given[partner] = self._candidate[partner], self._candidate[name]
        return given

    def searched(self, tap: str, names: Sequence[str]) -> Iterator[Hypothesis]:
        """Fit the parameters of bugs between the values of their grids: the first value that explains this tap, if one does."""
        for name in names:
            kind = catalog.load("mutations", name)
            for key, (low, high) in kind.ranges.items():
                far = functools.partial(self._residual, tap, name, key)
                whole = kind.is_whole(key)
                value = refine(far, scan(far, low, high, kind.grid.get(key, ()), whole=whole), STEPS, whole=whole)
                limit = LIMIT * expected(taps.split(tap)[1], self._precision)
                short = [value] if whole else [float(f"{value:.{digits}g}") for digits in DIGITS]
                shortest = next((number for number in short if far(number) <= limit), None)
                if shortest is not None:
                    wrong = self._wrong([(name, {key: shortest})])
                    yield from self._compared(name, {key: shortest}, kind, wrong)
                    return

    def _residual(self, tap: str, name: str, key: str, value: float) -> float:
        wrong = self._wrong([(name, {key: value})])
        if tap not in wrong or wrong[tap].size != self._candidate[tap].size:
            return math.inf
        return relative(wrong[tap], self._candidate[tap], taps.split(tap)[1])

    def _compared(self, name: str, options: Mapping[str, Any], kind: Any, wrong: Mapping[str, np.ndarray]) -> list[Hypothesis]:
        """One hypothesis for every broken tap that the bug changes."""
        made = []
        for tap in self._broken:
            leaf, right, candidate = taps.split(tap)[1], self._right.get(tap), self._candidate[tap]
            limit = LIMIT * expected(leaf, self._precision)
            if tap not in wrong or right is None or not wrong[tap].size == right.size == candidate.size:
                continue
            if relative(wrong[tap], right, leaf) > limit:
                residual = relative(wrong[tap], candidate, leaf)
                made.append(Hypothesis(tap, name, options, residual, residual <= limit, kind.remedy))
        return made
