"""Where inside a wrong tensor its error lies: which heads, rotary pairs, experts, positions and keys."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from logitproof.localization.heads import heads_of, turns
from logitproof.protocol import taps

Arrays = Mapping[str, np.ndarray]
RUNS = 4
"""Runs of numbers that are written out; where there are more, the worst are named."""
PROGRESSION = 3
"""Members that make a step between them a rule."""
PAIRED = {
    "attn.q_rope": "attn.q_rope", "attn.q": "attn.q_rope", "attn.k_rope": "attn.k_rope", "attn.k": "attn.k_rope",
    "cache.k": "attn.k_rope",
}  # fmt: skip
"""Taps that hold rotary pairs, by the rotation that turns them."""


@dataclass(frozen=True)
class Axis:
    """The error along one dimension of a tensor, relative, a number for every head, rotary pair, expert, position or key.

    An error of None is that of an expert that nobody chose. `wrong` are the numbers whose error is above what the arithmetic
    explains. `frequencies` are, of rotary pairs, the radians that a position turns them by, in the reference and the candidate.
    """

    name: str
    errors: tuple[float | None, ...]
    wrong: tuple[int, ...]
    frequencies: tuple[tuple[float, float], ...] = ()

    @property
    def text(self) -> str:
        """Which of them are wrong, in words; nothing where all or none are."""
        counted = [number for number, error in enumerate(self.errors) if error is not None]
        if not self.wrong or len(self.wrong) == len(counted):
            return ""
        return f"{_plural(self.name, self.wrong)} {_numbers(self)} of {len(counted)}{self._turned}"

    @property
    def _turned(self) -> str:
        """What one turned pair does on either side, or how long the waves of several are."""
        pairs = [self.frequencies[number] for number in self.wrong if number < len(self.frequencies)]
        if not pairs:
            return ""
        if len(pairs) == 1:
            return f" (turned by {pairs[0][1]:.4g} rad a position, {pairs[0][0]:.4g} in the reference)"
        low, high = min(pair[0] for pair in pairs), max(pair[0] for pair in pairs)
        return f" (frequencies {high:.4g} to {low:.4g} rad a position)"


def axes(name: str, candidate: Arrays, right: Arrays, before: Arrays, limit: float) -> tuple[Axis, ...]:
    """The error of the tap `name` along each of its dimensions.

    `right` are the tensors that the candidate's should be, `before` those that were read where the right ones were made, to
    see by how much a rotation turned. A number whose relative error is above `limit` is wrong.
    """
    values = np.asarray(candidate[name], np.float64).reshape(right[name].shape)
    wanted = np.asarray(right[name], np.float64)
    leaf = taps.split(name)[1]
    if leaf == "attn.scores":
        values, wanted = np.tril(values), np.tril(wanted)
    return tuple(_axes(name, values, wanted, candidate, right, before, limit))


def by_position(name: str, candidate: np.ndarray, reference: np.ndarray) -> tuple[float, ...]:
    """The relative error of every position of a tap [T, ...]."""
    values, wanted = (np.asarray(tensor, np.float64).reshape(reference.shape) for tensor in (candidate, reference))
    return tuple(_errors(values - wanted, wanted, 0))


def _axes(
    name: str, values: np.ndarray, wanted: np.ndarray, candidate: Arrays, right: Arrays, before: Arrays, limit: float
) -> Iterator[Axis]:
    layer, leaf = taps.split(name)
    if leaf == "moe.index":
        yield _axis("position", (values != wanted).any(-1).astype(float).tolist(), 0.0)
        yield _axis("expert", _choices(values, wanted, _experts(layer, right, values, wanted)), 0.0)
        return
    if leaf == "moe.weights":
        values = _where_chosen_alike(layer, values, wanted, candidate, right)
    labels: tuple[str, ...] = ("head", "position", "key") if leaf in taps.MATRICES else ("position",)
    if leaf in taps.CACHED:
        labels = ("slot",)
    if leaf == "moe.router":
        labels = ("position", "expert")
    shape = heads_of(layer, leaf, right)
    if shape is not None and values.size == len(values) * shape[0] * shape[1]:
        values, wanted = (tensor.reshape(len(tensor), *shape) for tensor in (values, wanted))
        labels = (*labels[:1], "head")
    for axis, label in enumerate(labels):
        yield _axis(label, _errors(values - wanted, wanted, axis), limit)
    if leaf in PAIRED and shape is not None:
        yield from _pairs(name, values, wanted, candidate, right, before, limit)
    if leaf in ("moe.weights", "moe.out") and (chosen := candidate.get(f"layers.{layer}.moe.index")) is not None:
        yield _axis("expert", _of_chosen(leaf, values, wanted, chosen, _experts(layer, right, chosen)), limit)


def _pairs(
    name: str, values: np.ndarray, wanted: np.ndarray, candidate: Arrays, right: Arrays, before: Arrays, limit: float
) -> Iterator[Axis]:
    """Rotary pairs (i, i + r / 2) of the first r entries, those that the reference turns."""
    layer, leaf = taps.split(name)
    rotated = f"layers.{layer}.{PAIRED[leaf]}"
    turned = turns(rotated, right, before)
    size = turned.size if turned is not None else wanted.shape[-1]
    if size < 2 or size % 2:
        return
    halves = [tensor[..., :size].reshape(*tensor.shape[:-1], 2, size // 2) for tensor in (values - wanted, wanted)]
    axis = _axis("rotary pair", _errors(halves[0], halves[1], 3), limit)
    other_turned = turns(rotated, candidate, candidate, size)
    if turned is not None and other_turned is not None:
        pairs = zip(turned.frequencies, other_turned.frequencies, strict=True)
        axis = replace(axis, frequencies=tuple((float(first), float(second)) for first, second in pairs))
    yield axis


def _axis(label: str, errors: Sequence[float | None], limit: float) -> Axis:
    wrong = tuple(number for number, error in enumerate(errors) if error is not None and not error <= limit)
    return Axis(label, tuple(errors), wrong)


def _errors(difference: np.ndarray, wanted: np.ndarray, axis: int) -> list[float]:
    """||difference|| over ||wanted|| of every slice; of a slice that is smaller than the mean, over the mean slice."""
    rest = tuple(number for number in range(difference.ndim) if number != axis)
    with np.errstate(over="ignore", invalid="ignore"):
        error, scale = (np.sqrt((tensor**2).sum(axis=rest)) for tensor in (difference, wanted))
    floor = float(np.sqrt((scale**2).mean())) if scale.size else 0.0
    return [_ratio(float(part), max(float(size), floor)) for part, size in zip(error, scale, strict=True)]


def _ratio(error: float, scale: float) -> float:
    if not math.isfinite(error):
        return math.inf
    return error / scale if scale else (0.0 if error == 0 else math.inf)


def _experts(layer: int | None, right: Arrays, *chosen: np.ndarray) -> int:
    """How many experts there are; where no router says it, those up to the last that was chosen."""
    router = right.get(f"layers.{layer}.moe.router")
    return int(router.shape[-1]) if router is not None else max(int(index.max(initial=0)) for index in chosen) + 1


def _where_chosen_alike(
    layer: int | None, values: np.ndarray, wanted: np.ndarray, candidate: Arrays, right: Arrays
) -> np.ndarray:
    """The candidate's weights, with the right ones where other experts were chosen: another choice is its own finding."""
    name = f"layers.{layer}.moe.index"
    if name not in candidate or name not in right:
        return values
    alike = (np.asarray(candidate[name]).reshape(wanted.shape) == np.asarray(right[name])).all(-1, keepdims=True)
    return np.where(alike, values, wanted)


def _choices(values: np.ndarray, wanted: np.ndarray, count: int) -> list[float | None]:
    """Of the positions at which either side chose an expert, the share at which only one of them did."""
    errors: list[float | None] = []
    for expert in range(count):
        candidate, reference = ((tensor == expert).any(-1) for tensor in (values, wanted))
        either_chose = candidate | reference
        errors.append(float((candidate != reference).sum() / either_chose.sum()) if either_chose.any() else None)
    return errors


def _of_chosen(leaf: str, values: np.ndarray, wanted: np.ndarray, chosen: np.ndarray, count: int) -> list[float | None]:
    """The error of every expert. Of the block's output, that of its best position: an expert that is right at one is right."""
    index = np.asarray(chosen).astype(int).reshape(len(values), -1)
    errors: list[float | None] = []
    by_row = np.array(_errors(values - wanted, wanted, 0))
    for expert in range(count):
        places = index == expert
        if not places.any():
            errors.append(None)
        elif leaf == "moe.out":
            errors.append(float(by_row[places.any(-1)].min()))
        else:
            difference = values.reshape(index.shape)[places] - wanted.reshape(index.shape)[places]
            errors.append(_ratio(float(np.linalg.norm(difference)), float(np.linalg.norm(wanted.reshape(index.shape)[places]))))
    return errors


def _plural(name: str, numbers: Sequence[int]) -> str:
    return name if len(numbers) == 1 else f"{name}s"


def _numbers(axis: Axis) -> str:
    """`2`, `0–3, 7`, `from 20 on`, `every 16th from 0 on`, or the worst of many."""
    wrong, count = list(axis.wrong), len(axis.errors)
    steps = {after - before for before, after in itertools.pairwise(wrong)}
    if len(wrong) > 1 and steps == {1} and wrong[-1] == count - 1:
        return f"from {wrong[0]} on"
    if len(wrong) >= PROGRESSION and len(steps) == 1 and (step := steps.pop()) > 1 and wrong[-1] + step >= count:
        return f"{', '.join(map(str, wrong[:PROGRESSION]))} … (each {step} apart)"
    runs = _runs(wrong)
    if len(runs) <= RUNS:
        return ", ".join(str(first) if first == last else f"{first}–{last}" for first, last in runs)
    worst = sorted(wrong, key=lambda number: -(axis.errors[number] or 0.0))[:RUNS]
    return f"{len(wrong)}, the worst {', '.join(map(str, sorted(worst)))},"


def _runs(numbers: Sequence[int]) -> list[tuple[int, int]]:
    runs: list[tuple[int, int]] = []
    for number in numbers:
        if runs and runs[-1][1] == number - 1:
            runs[-1] = (runs[-1][0], number)
        else:
            runs.append((number, number))
    return runs
