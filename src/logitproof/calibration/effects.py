"""Plants every known bug in a model, adds the noise of a candidate's arithmetic, and measures what a run would see of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from logitproof.bands.calculated import METRIC, scale, tokens_sha256
from logitproof.bands.power import Effects
from logitproof.bands.rule import JUDGED
from logitproof.calibration.subject import Subject
from logitproof.comparison.compare import compare
from logitproof.reference.planted import PREFILL_NEEDS, Planted, showing
from logitproof.rows.distance import rms, rms_by_position

SEED = 1 << 20
"""Of the one repetition that the bugs are added to; those of a calibration begin at 0."""


def measure_effects(
    model: Path,
    subjects: Sequence[Subject],
    *,
    weights: Path | None = None,
    metrics: Sequence[str] = (),
    bugs: Sequence[str] | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Effects]:
    """By key of each calibration: every bug that one pass can show, or `bugs` alone, in the HF model of the folder,
    with the dequantized weights of a GGUF file where one is named.

    What a bug changes is measured in float32, once for all, and added to each candidate's logits under noise. Raises
    EnvironmentFailed without torch.
    """
    sequences = list(dict.fromkeys(ids for subject in subjects for ids in subject.sequences))
    planted = Planted.opened(model, sequences, weights)
    samples = {subject.calibration.key: _Sample(subject, dict.fromkeys([*JUDGED, *metrics])) for subject in subjects}
    right = planted.logits()
    applying = (name for name, kind in showing(PREFILL_NEEDS, bugs) if kind().applies(planted.config))
    for number, bug in enumerate(applying, 1):
        try:
            wrong = planted.logits([(bug, {})])
        except RuntimeError:
            continue  # shapes that this bug cannot have in this model
        deltas = {ids: with_bug - without for ids, with_bug, without in zip(sequences, wrong, right, strict=True)}
        for sample in samples.values():
            sample.add(bug, deltas)
        if number % 20 == 0:
            say(f"{number} bugs planted")
    return {key: sample.effects() for key, sample in samples.items()}


class _Sample:
    """One repetition of a calibration, and what it becomes with each bug."""

    def __init__(self, subject: Subject, metrics: Iterable[str]) -> None:
        (truth, own), sides = subject.predictors, subject.sides
        self._passes = {
            ids: (truth.noisy(ids, sides.reference, SEED).logits, own.noisy(ids, sides.candidate, SEED + 1).logits)
            for ids in subject.sequences
        }
        scales = [scale(subject.calibration.sequences[tokens_sha256(ids)].fixed[METRIC]) for ids in self._passes]
        self._noise = rms(*scales)
        self._sizes: dict[str, float] = {}
        self._rows: dict[tuple[int, ...], dict[str, list[np.ndarray]]]
        self._rows = {ids: {name: [] for name in metrics} for ids in self._passes}

    def add(self, bug: str, deltas: Mapping[tuple[int, ...], np.ndarray]) -> None:
        """What `bug` changes, [T, V] logits of each sequence."""
        size = rms(*(rms_by_position(deltas[ids]) for ids in self._passes)) / self._noise
        self._sizes[bug] = size if np.isfinite(size) else np.inf
        for ids, row in self._rows.items():
            columns = _columns(*self._passes[ids], deltas[ids], ids)
            for name, values in row.items():
                values.append(columns.get(name, np.full(len(ids), np.nan)))

    def effects(self) -> Effects:
        """Everything that was added."""
        columns = {ids: {name: np.array(values) for name, values in row.items()} for ids, row in self._rows.items()}
        return Effects(self._sizes, {tokens_sha256(ids): row for ids, row in columns.items()})


def _columns(reference: np.ndarray, candidate: np.ndarray, delta: np.ndarray, ids: Sequence[int]) -> dict[str, np.ndarray]:
    """Every metric of a candidate with the bug; nothing where it gives no numbers."""
    if not np.isfinite(delta).all():
        return {}
    metrics = compare(reference, candidate + delta, labels=np.array([*ids[1:], -1], np.int64)).metrics
    return {name: np.asarray(values, np.float64) for name, values in metrics.items()}
