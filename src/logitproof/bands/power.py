"""Detection power: which known bugs a band or a gate would catch on this model and suite, and the weakest of them.

`logitproof calibrate --power` plants every bug in the reference, adds the noise of the candidate's arithmetic, and keeps what
each metric then is at each position. So what a gate would catch is looked up, also where its bound or its scope has changed.

CONTRACT.bands/KEY.power.npz      beside the calibration of that key
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from logitproof.bands.band import Band
from logitproof.bands.calculated import CalculatedBand, tokens_sha256
from logitproof.bands.rule import JUDGED, Statuses, statuses_of, too_many
from logitproof.comparison.summary import STATISTICS
from logitproof.contract.contract import Gate
from logitproof.files.arrays import read_arrays, write_arrays

Places = Sequence[tuple[Sequence[int], int, Sequence[int]]]
"""Of each prompt: its tokens, the position of its first row, and the rows that are looked at."""


@dataclass(frozen=True)
class Stretch:
    """A sequence whose rows are judged from position `start` to its end; one with a waiver counts in no band."""

    token_ids: Sequence[int]
    start: int = 0
    has_waiver: bool = False


@dataclass(frozen=True)
class Effects:
    """What a candidate with the noise of its arithmetic would give with each known bug.

    `sizes` are RMS logit errors of the bugs over that of the noise, infinite where a logit is no number. `columns` is by the
    sha256 of the tokens and by metric, float [B, T], in the order of `sizes`.
    """

    sizes: Mapping[str, float]
    columns: Mapping[str, Mapping[str, np.ndarray]]


@dataclass(frozen=True)
class Power:
    """Known bugs that a band or a gate would catch, as `calibrate --power` measured it."""

    caught: int
    known: int
    weakest: str
    """the weakest that is caught, or nothing"""
    weakest_size: float | None
    """its RMS logit error over that of the noise"""
    missed: Mapping[str, float]
    """bugs that are missed though they exceed the noise, with their size"""

    def __str__(self) -> str:
        weakest = f", the weakest {self.weakest} ({self.weakest_size:.2g} times the noise)" if self.weakest else ""
        return f"{self.caught} of {self.known} known bugs{weakest}"


def power_of_gate(gate: Gate, effects: Effects, places: Places) -> Power | None:
    """What a gate with this bound catches; None where its metric was not kept, or tokens are not among the effects."""
    columns = _chosen(effects, (gate.metric,), places)
    if columns is None or np.isnan(gate.bound):
        return None
    holds = []
    for row in columns[gate.metric]:
        numbers = row[~np.isnan(row)]
        holds.append(bool(numbers.size) and gate.holds(STATISTICS[gate.statistic](numbers)))
    return _power(effects, [not held for held in holds])


def power_of_band(band: Band | CalculatedBand, effects: Effects, stretches: Sequence[Stretch]) -> Power | None:
    """What a band catches over whole sequences; None where there are none, or one is not among the effects."""
    kept = [effects.columns.get(tokens_sha256(stretch.token_ids), {}) for stretch in stretches]
    if not kept or any(name not in columns for columns in kept for name in JUDGED):
        return None
    bands = [band.along(run.token_ids, run.start, len(run.token_ids) - run.start) for run in stretches]
    rows = list(zip(bands, kept, stretches, strict=True))
    caught = []
    for bug in range(len(effects.sizes)):
        prompts = [
            Statuses(statuses_of(along, {name: columns[name][bug, stretch.start :] for name in JUDGED}), stretch.has_waiver)
            for along, columns, stretch in rows
        ]
        caught.append(_is_caught(prompts, band.summary))
    return _power(effects, caught)


def _is_caught(prompts: Sequence[Statuses], band: Band) -> bool:
    """Judge by the rule of a cell; what is no number is an error of the engine, which no band and no waiver excuses."""
    return too_many(prompts, band) is not None or any("NOT-MEASURED" in prompt.positions for prompt in prompts)


def _chosen(effects: Effects, metrics: Sequence[str], places: Places) -> dict[str, np.ndarray] | None:
    """The columns [B, all chosen positions] of the metrics."""
    columns: dict[str, list[np.ndarray]] = {name: [] for name in metrics}
    for tokens, start, rows in places:
        kept = effects.columns.get(tokens_sha256(tokens), {})
        for name in metrics:
            if name not in kept:
                return None
            columns[name].append(kept[name][:, [start + row for row in rows]])
    return {name: np.concatenate(parts, axis=1) for name, parts in columns.items()} if places else None


def _power(effects: Effects, caught: Sequence[bool]) -> Power:
    sizes = dict(effects.sizes)
    names = {name for name, is_caught in zip(sizes, caught, strict=True) if is_caught or np.isinf(sizes[name])}
    weakest = min((name for name in names if np.isfinite(sizes[name])), key=sizes.__getitem__, default="")
    missed = {name: round(size, 3) for name, size in sizes.items() if name not in names and size > 1}
    return Power(len(names), len(sizes), weakest, sizes[weakest] if weakest else None, missed)


def write_effects(folder: Path, key: str, effects: Effects) -> Path:
    """Write `folder`/KEY.power.npz in one step."""
    flat = {f"{name}/{metric}": values for name, metrics in effects.columns.items() for metric, values in metrics.items()}
    arrays = {name: values.astype(np.float32) for name, values in flat.items()}
    return write_arrays(folder / f"{key}.power.npz", effects.sizes, arrays)


def read_effects(folder: Path, key: str) -> Effects | None:
    """The effects under that key, or None; raises ContractError where the file is damaged."""
    content = read_arrays(folder / f"{key}.power.npz", "run `logitproof calibrate --power` again")
    if content is None:
        return None
    columns: dict[str, dict[str, np.ndarray]] = {}
    for name, values in content[1].items():
        tokens, metric = name.split("/")
        columns.setdefault(tokens, {})[metric] = values
    return Effects(content[0], columns)
