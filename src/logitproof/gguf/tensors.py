"""Tensors of a model by name, read row by row, so that a file larger than memory can be compared.

A matrix [R, C] is R rows; a vector is one row; a stack of matrices [X, R, C] is X·R rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import gguf
import numpy as np

from logitproof.errors import ModelError
from logitproof.files import safetensors
from logitproof.files.causes import cause_of
from logitproof.files.gguf import GgufFile
from logitproof.files.safetensors import FLOATS, widened
from logitproof.gguf.layout import Layout, Planned
from logitproof.weights.checkpoint import Array
from logitproof.weights.model import weight_files
from logitproof.weights.quantized.folder import PlainTensors, plain_tensors

Index = Array | None
"""Which rows; None is all."""


class Tensors(Protocol):
    """Named tensors that are read in part."""

    names: list[str]

    def shape(self, name: str) -> tuple[int, ...]: ...
    def kind(self, name: str) -> str: ...
    def rows(self, name: str, index: Index = None) -> Array: ...


def row_count(shape: tuple[int, ...]) -> int:
    return int(np.prod(shape[:-1], dtype=np.int64)) if shape else 1


class GgufTensors:
    """The tensors of a GGUF file, dequantized."""

    def __init__(self, reader: GgufFile) -> None:
        self._tensors = {tensor.name: tensor for tensor in reader.tensors}
        self.names = list(self._tensors)

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(int(size) for size in reversed(self._tensors[name].shape))

    def kind(self, name: str) -> str:
        return str(self._tensors[name].tensor_type.name)

    def rows(self, name: str, index: Index = None) -> Array:
        """float32 [rows, columns]; raises ModelError for a type that cannot be dequantized."""
        tensor = self._tensors[name]
        data = tensor.data.reshape(row_count(self.shape(name)), -1)
        try:
            values = gguf.quants.dequantize(data if index is None else data[index], tensor.tensor_type)
        except (ValueError, NotImplementedError, KeyError) as error:
            raise ModelError(f"cannot dequantize {name} ({self.kind(name)}): {cause_of(error)}") from None
        return np.asarray(values, np.float32).reshape(-1, self.shape(name)[-1] if self.shape(name) else 1)


@dataclass(frozen=True)
class _Stored:
    """One tensor of a safetensors file, mapped and not read."""

    kind: str
    shape: tuple[int, ...]
    raw: Array

    def rows(self, index: Index) -> Array:
        if self.kind not in FLOATS:
            raise ModelError(f"a tensor has type {self.kind}", remedy="save the weights as bfloat16, float16 or float32")
        table = self.raw.reshape(row_count(self.shape), -1)
        part = np.ascontiguousarray(table if index is None else table[index])
        return widened(part, self.kind)


class _Dequantized:
    """One matrix of a quantized checkpoint, computed when its rows are asked for."""

    def __init__(self, plain: PlainTensors, name: str) -> None:
        self.kind, self.shape = plain.stored(name), plain.shape(name)
        self._plain, self._name = plain, name

    @property
    def raw(self) -> Array:
        return self._plain.raw(self._name)

    def rows(self, index: Index) -> Array:
        table = self._plain.array(self._name).reshape(row_count(self.shape), -1)
        return table if index is None else table[index]


class _Raw(Mapping[str, Array]):
    """The bytes of tensors by name, each read or computed when it is asked for."""

    def __init__(self, tensors: Mapping[str, _Stored | _Dequantized]) -> None:
        self._tensors = tensors

    def __getitem__(self, name: str) -> Array:
        return self._tensors[name].raw

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)


class FolderTensors:
    """The tensors of a Hugging Face folder under their own names; those of a quantized one dequantized."""

    def __init__(self, folder: Path) -> None:
        self._tensors: dict[str, _Stored | _Dequantized] = {}
        if plain := plain_tensors(folder):
            self._tensors |= {name: _Dequantized(plain, name) for name in plain.names}
        for file in [] if plain else weight_files(folder):
            held = safetensors.Tensors(file)
            self._tensors |= {name: _Stored(held.kind(name), held.shape(name), held.raw(name)) for name in held.names}
        self.names = list(self._tensors)

    def shape(self, name: str) -> tuple[int, ...]:
        return self._tensors[name].shape

    def kind(self, name: str) -> str:
        return self._tensors[name].kind

    def rows(self, name: str, index: Index = None) -> Array:
        """float32 [rows, columns], exact for bfloat16 and float16."""
        return self._tensors[name].rows(index)

    def raw(self) -> Mapping[str, Array]:
        """The bytes of every tensor by name, mapped."""
        return _Raw(self._tensors)


class PlannedTensors:
    """The tensors of a Hugging Face folder as its layout would write them to GGUF.

    Where the layout only reorders whole rows, a sample of rows is read alone; it is asked by running the
    layout on row numbers in place of rows. Any other change is done on the whole tensor.
    """

    def __init__(self, folder: FolderTensors, layout: Layout) -> None:
        self._folder = folder
        held = set(folder.names)
        self._planned = {planned.name: planned for planned in layout.tensors if held.issuperset(planned.sources)}
        self.names = list(self._planned)
        self._whole: tuple[str, Array] = ("", np.empty(0))
        self._orders: dict[str, Array | None] = {}

    def shape(self, name: str) -> tuple[int, ...]:
        sources = [self._folder.shape(source) for source in self._planned[name].sources]
        if len(sources) == 1 and self._order(name) is not None:
            return sources[0]
        if len(set(sources)) == 1 and len(sources) > 1 and self._order(name) is not None:
            return (len(sources), *sources[0])
        return self._changed(name).shape

    def is_reordered(self, name: str) -> bool:
        """Whether its rows are rows of the folder, as they are."""
        return self._order(name) is not None

    def kind(self, name: str) -> str:
        kinds = {self._folder.kind(source) for source in self._planned[name].sources}
        return kinds.pop() if len(kinds) == 1 else "F32"

    def rows(self, name: str, index: Index = None) -> Array:
        """float32 [rows, columns]."""
        order = self._order(name)
        if order is None:
            whole = self._changed(name)
            table = whole.reshape(row_count(whole.shape), -1)
            return table if index is None else table[index]
        chosen = order if index is None else order[index]
        return self._picked(self._planned[name].sources, chosen)

    def _picked(self, sources: tuple[str, ...], chosen: Array) -> Array:
        """Rows by number, counted through all sources one after another."""
        if len(sources) == 1:
            return self._folder.rows(sources[0], chosen)
        counts = [row_count(self._folder.shape(source)) for source in sources]
        starts = np.cumsum([0, *counts])
        owners = np.searchsorted(starts, chosen, side="right") - 1
        out = np.empty((len(chosen), self._folder.shape(sources[0])[-1]), np.float32)
        for owner in np.unique(owners):
            owned = owners == owner
            out[owned] = self._folder.rows(sources[owner], chosen[owned] - starts[owner])
        return out

    def _order(self, name: str) -> Array | None:
        """Source row of every row, or None where the layout does more than to reorder rows."""
        if name not in self._orders:
            self._orders[name] = self._asked_for_order(name)
        return self._orders[name]

    def _asked_for_order(self, name: str) -> Array | None:
        planned = self._planned[name]
        shapes = [self._folder.shape(source) for source in planned.sources]
        if not shapes or any(len(shape) != 2 for shape in shapes):
            return None
        numbers, start = [], 0
        for shape in shapes:
            numbers.append(np.arange(start, start + shape[0])[:, None])
            start += shape[0]
        try:
            changed = planned.change(numbers)
        except (ValueError, IndexError, TypeError):
            return None
        order = np.asarray(changed).reshape(-1)
        reorders = order.dtype.kind == "i" and np.array_equal(np.sort(order), np.arange(start))
        return order if reorders and not _touches_columns(planned, shapes) else None

    def _changed(self, name: str) -> Array:
        if self._whole[0] != name:
            planned = self._planned[name]
            arrays = [self._folder.rows(source).reshape(self._folder.shape(source)) for source in planned.sources]
            self._whole = (name, np.asarray(planned.change(arrays), np.float32))
        return self._whole[1]


def _touches_columns(planned: Planned, shapes: list[tuple[int, ...]]) -> bool:
    """Whether the change moves anything along a row: asked on two rows' worth of column numbers."""
    columns = [np.broadcast_to(np.arange(shape[1]), shape) for shape in shapes]
    if sum(column.shape[0] * column.shape[1] for column in columns) > 1 << 22:
        # Broadcast numbers would be written out by the change; a few columns tell as much.
        columns = [np.broadcast_to(np.arange(min(shape[1], 8)), (shape[0], min(shape[1], 8))) for shape in shapes]
    try:
        changed = np.asarray(planned.change(list(columns)))
    except (ValueError, IndexError):
        return True
    return not bool((changed.reshape(-1, changed.shape[-1]) == np.arange(changed.shape[-1])).all())


def tensors_of(reader_or_folder: GgufFile | Path, layout: Any = None) -> Tensors:
    """Tensors of a GGUF file, or of a folder under GGUF names where its layout is known."""
    if not isinstance(reader_or_folder, Path):
        return GgufTensors(reader_or_folder)
    folder = FolderTensors(reader_or_folder)
    return PlannedTensors(folder, layout) if isinstance(layout, Layout) else folder


def sampled(rows: int, columns: int, whole_below: int, wanted: int) -> Index:
    """Numbers of some rows, evenly spaced with the first and the last; None where all are few enough."""
    if rows * columns <= whole_below or rows <= wanted:
        return None
    return np.unique(np.linspace(0, rows - 1, wanted).astype(np.int64))


def chunks(index: Index, rows: int, columns: int, values: int) -> Iterable[Array]:
    """Row numbers in pieces of about `values` values."""
    every = np.arange(rows) if index is None else index
    step = max(1, values // max(columns, 1))
    for start in range(0, len(every), step):
        yield every[start : start + step]
