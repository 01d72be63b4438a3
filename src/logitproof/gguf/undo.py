"""What a layout does to the tensors of a checkpoint, undone: the layout itself is asked where it puts every value.

There is one mapping only, that of the writer. A change that moves values is run on their numbers; one that changes each
value by itself is one of `POINTWISE`, and is recognized by what it makes of values that are all different.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from logitproof.errors import ModelError
from logitproof.gguf.layout import Planned
from logitproof.weights.checkpoint import Array

Shape = tuple[int, ...]
Function = Callable[[Array], Array]
POINTWISE: tuple[tuple[Function, Function], ...] = (
    (lambda values: values, lambda values: values),
    (lambda values: values + 1, lambda values: values - 1),
    (lambda values: -np.exp(values), lambda values: np.log(-values)),
)
"""What layouts do to single values, in float64, each with its inverse."""
UNCHANGED = Planned("", ()).change
TOLERANCE = 1e-6
"""Relative distance at which a value is what a function makes of it: layouts compute in float32."""


@dataclass(frozen=True)
class Part:
    """Values of the checkpoint tensor `name`: all of it, or those at the numbers `at` counted through it."""

    name: str
    values: Array
    at: Array | None = None


def undone(planned: Planned, values: Array, shape_of: Callable[[str], Shape]) -> Iterator[Part]:
    """The parts of the checkpoint that a GGUF tensor with these values [.., row] was made from; float32.

    `shape_of` gives the shape of a checkpoint tensor. Raises ModelError where the tensor cannot be what the layout makes.
    """
    sources = planned.sources
    if planned.change is np.stack:
        if values.shape != (len(sources), *shape_of(sources[0])):
            raise _misfit(planned, values.shape, (len(sources), *shape_of(sources[0])))
        yield from (Part(name, values[number]) for number, name in enumerate(sources))
        return
    shapes = [shape_of(name) for name in sources]
    if planned.change is UNCHANGED:
        if values.shape != shapes[0]:
            raise _misfit(planned, values.shape, shapes[0])
        yield Part(sources[0], values)
        return
    places, inverse = _traced(planned, shapes)
    if places.size != values.size:
        raise _misfit(planned, values.shape, places.shape)
    flat = np.asarray(inverse(values.reshape(-1).astype(np.float64)), np.float32) if inverse else values.reshape(-1)
    yield from _dealt(sources, shapes, places.reshape(-1), flat)


def _dealt(sources: Sequence[str], shapes: Sequence[Shape], places: Array, flat: Array) -> Iterator[Part]:
    start = 0
    for name, shape in zip(sources, shapes, strict=True):
        count = math.prod(shape)
        dealt = (places >= start) & (places < start + count) if len(sources) > 1 else slice(None)
        numbers, held = places[dealt] - start, flat[dealt]
        if numbers.size == count:
            whole = np.empty(count, np.float32)
            whole[numbers] = held
            yield Part(name, whole.reshape(shape))
        else:
            yield Part(name, held, numbers)
        start += count


def _traced(planned: Planned, shapes: Sequence[Shape]) -> tuple[Array, Function | None]:
    """Which value of the sources, counted through all, every value is made from; and how to undo what is done to it."""
    total = sum(math.prod(shape) for shape in shapes)
    kind = np.int32 if total < 1 << 31 else np.int64
    moved = np.asarray(planned.change(_split(np.arange(total, dtype=kind), shapes)))
    if moved.dtype.kind in "iu":
        return moved, None
    probe = np.linspace(0.5, 1.5, total, dtype=np.float32)
    moved = np.asarray(planned.change(_split(probe, shapes)), np.float64)
    order = np.argsort(moved, axis=None)
    for function, inverse in POINTWISE:
        made = function(probe.astype(np.float64))
        expected = np.argsort(made)
        if moved.size == total and np.allclose(moved.reshape(-1)[order], made[expected], rtol=TOLERANCE, atol=0):
            places = np.empty(total, np.int64)
            places[order] = expected
            return places.reshape(moved.shape), inverse
    raise ModelError("is changed in a way that is not known backwards", where=planned.name, remedy="add it to POINTWISE")


def _split(flat: Array, shapes: Sequence[Shape]) -> list[Any]:
    made, start = [], 0
    for shape in shapes:
        made.append(flat[start : start + math.prod(shape)].reshape(shape))
        start += math.prod(shape)
    return made


def _misfit(planned: Planned, held: Shape, wanted: Shape) -> ModelError:
    source = planned.sources[0]
    text = f"of {source} is {list(held)}, and a model of these settings has {list(wanted)}"
    return ModelError(text, where=planned.name, remedy="name the config of the model that the file was made from")
