"""Parameters of a transformers model, read from its files one at a time, when they are asked for.

What a parameter consists of is settled when the files are opened: every tensor of the files has its place, and every parameter
is filled exactly once, else nothing is read at all. Of a file that is mapped no page stays in memory after it was read.
"""

from __future__ import annotations

import math
import mmap
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from gguf.quants import dequantize

from logitproof.errors import ContractError, Refusal
from logitproof.files.causes import cause_of
from logitproof.files.safetensors import FLOATS, Tensors
from logitproof.gguf.layout import Planned
from logitproof.gguf.undo import UNCHANGED
from logitproof.reference import prequantized
from logitproof.reference.dequantize import OTHER_CONFIG, REPLACE, GgufWeights, first_few
from logitproof.reference.places import Place, fill, place_in
from logitproof.weights.model import weight_files
from logitproof.weights.quantized.folder import PlainTensors

PIECE = 1 << 22
"""Values that are widened or dequantized at a time."""
TORCH = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32, "F64": torch.float64}
HEAD, EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"


class OnDisk(Protocol):
    """Where parameters lie."""

    details: dict[str, Any]

    def parameter(self, name: str, like: torch.Tensor) -> torch.Tensor:
        """The whole parameter in the shape and type of `like`."""

    def part(self, name: str, number: int, like: torch.Tensor) -> torch.Tensor:
        """What stands at this number of the first dimension: a row, or the matrix of an expert."""


@dataclass(frozen=True)
class _Held:
    """A tensor of a safetensors file, and the part of a parameter that it is."""

    place: Place
    file: Path
    tensor: str


class FolderOnDisk:
    """A safetensors folder whose tensors have the names that the model gives its parameters, or are experts' matrices."""

    def __init__(self, folder: Path, parameters: Mapping[str, torch.Tensor], tied: bool, ignored: Sequence[str]) -> None:
        self._held: dict[str, list[_Held]] = defaultdict(list)
        plain = prequantized.opened(folder)
        self._files: dict[Path, Tensors | PlainTensors] = {}
        self._files |= {folder: plain} if plain else {file: Tensors(file) for file in _weight_files(folder)}
        self.details: dict[str, Any] = {"ignored_tensors": {}, **({"dequantized": plain.details} if plain else {})}
        foreign = []
        for file, tensors in self._files.items():
            for name in tensors.names:
                if tied and name == HEAD:
                    continue
                try:
                    place = place_in(parameters, name)
                except KeyError:
                    if any(re.search(pattern, name) for pattern in ignored):
                        group = ".".join(name.split(".")[:2])
                        self.details["ignored_tensors"][group] = self.details["ignored_tensors"].get(group, 0) + 1
                    else:
                        foreign.append(name)
                    continue
                self._check(tensors, name, place)
                self._held[place.name].append(_Held(place, file, name))
        if foreign:
            text = f"transformers gives {first_few(sorted(foreign))} of {folder} another name or shape when it loads them"
            raise Refusal(text, field="offload", remedy="leave `offload` out, or give a GGUF file of this model")
        _check_filled({name: _count(held) for name, held in self._held.items()}, parameters, folder)
        if tied:
            self._check_tied(folder)

    def parameter(self, name: str, like: torch.Tensor) -> torch.Tensor:
        out = torch.empty(like.shape, dtype=like.dtype)
        for held in self._held[name]:
            part = out[held.place.index] if held.place.index else out
            self._copy(held, part)
        return out

    def part(self, name: str, number: int, like: torch.Tensor) -> torch.Tensor:
        out = torch.empty(like.shape[1:], dtype=like.dtype)
        for held in self._held[name]:
            if not held.place.index:
                tensors = self._files[held.file]
                rows = tensors.part(held.tensor, number) if isinstance(tensors, PlainTensors) else self._rows(held)[number]
                out.copy_(_torch(rows, tensors.kind(held.tensor)))
            elif held.place.index[0] == number:
                self._copy(held, out[held.place.index[1:]])
        return out

    def _copy(self, held: _Held, out: torch.Tensor) -> None:
        """Rows after rows, so that the tensor is never there twice."""
        rows, kind = self._rows(held), self._files[held.file].kind(held.tensor)
        flat = out.view(len(rows), -1) if rows.ndim > 1 else out.view(1, -1)
        table = rows.reshape(len(flat), -1)
        for block in _blocks(*flat.shape):
            flat[block].copy_(_torch(table[block], kind))

    def _rows(self, held: _Held) -> np.ndarray:
        tensors = self._files[held.file]
        kind, shape = tensors.kind(held.tensor), tensors.shape(held.tensor)
        return tensors.raw(held.tensor).view(FLOATS[kind]).reshape(shape)

    def _check(self, tensors: Tensors | PlainTensors, name: str, place: Place) -> None:
        if tensors.kind(name) not in FLOATS:
            text = f"tensor {name} of {tensors.path.name} has type {tensors.kind(name)}"
            raise Refusal(text, field=str(tensors.path), remedy="save the weights as bfloat16, float16 or float32")
        if tensors.shape(name) != place.shape:
            text = f"tensor {name} of {tensors.path.name} is {list(tensors.shape(name))}, the model's is {list(place.shape)}"
            raise Refusal(text, field=str(tensors.path), remedy=REPLACE)
        if isinstance(tensors, Tensors):
            tensors.raw(name)  # refused where the file is cut off

    def _check_tied(self, folder: Path) -> None:
        """A tied matrix may be there twice, but then with the same values."""
        second = next((tensors for tensors in self._files.values() if HEAD in tensors.names), None)
        if second is None or EMBEDDING not in self._held:
            return
        first = self._held[EMBEDDING][0]
        embedding, head = self._files[first.file].raw(first.tensor), second.raw(HEAD)
        pieces = [slice(at, at + PIECE) for at in range(0, len(embedding), PIECE)]
        if len(embedding) != len(head) or not all(np.array_equal(embedding[piece], head[piece]) for piece in pieces):
            text = "lm_head.weight differs from the embedding that the config ties it to"
            raise Refusal(text, field=str(folder), remedy="set tie_word_embeddings: false in config.json, or remove it")


class GgufOnDisk:
    """A GGUF file, dequantized tensor by tensor; of experts each for itself."""

    def __init__(self, weights: GgufWeights, parameters: Mapping[str, torch.Tensor]) -> None:
        self._weights, self._parameters = weights, parameters
        self._planned: dict[str, list[Planned]] = defaultdict(list)
        counts: dict[str, int] = defaultdict(int)
        for planned in weights.present():
            places = [self._place(source) for source in planned.sources]
            for name in dict.fromkeys(place.name for place in places):
                self._planned[name].append(planned)
            self._count(planned, places, counts)
        self._measured = {self._place(name).name: value for name, value in weights.measured().items()}
        for name in self._measured:
            counts[name] += 1
        _check_filled(counts, parameters, weights.path)
        self.details: dict[str, Any] = {"tensor_types": weights.tensor_types}

    def parameter(self, name: str, like: torch.Tensor) -> torch.Tensor:
        out = torch.empty(like.shape, dtype=like.dtype)
        if name in self._measured:
            out.fill_(self._measured[name])
        for planned in self._planned[name]:
            if planned.change is UNCHANGED:
                self._copy(planned, out)
            elif planned.change is np.stack:
                for number, source in enumerate(planned.sources):
                    self._copy(planned, out[self._place(source).index], number)
            else:
                self._undo(planned, name, out)
        return out

    def part(self, name: str, number: int, like: torch.Tensor) -> torch.Tensor:
        out = torch.empty(like.shape[1:], dtype=like.dtype)
        for planned in self._planned[name]:
            if planned.change is UNCHANGED:
                out.copy_(self._dequantized(planned.name, number).reshape(out.shape))
            elif planned.change is np.stack:
                self._copy(planned, out[self._place(planned.sources[number]).index[1:]], number)
            else:
                return self.parameter(name, like)[number]
        return out

    def _place(self, source: str) -> Place:
        try:
            return place_in(self._parameters, source)
        except KeyError:
            text = f"{self._weights.path.name} has a tensor for {source}, which the config's model does not have"
            raise Refusal(text, field=str(self._weights.path), remedy=OTHER_CONFIG) from None

    def _count(self, planned: Planned, places: list[Place], counts: dict[str, int]) -> None:
        """How many values of each parameter a tensor fills: all of its sources', or as many as the file holds."""
        held = self._weights.tensor(planned.name).n_elements
        whole = sum(math.prod(place.shape) for place in places)
        if len(places) > 1 and held != whole and planned.change is not np.stack:
            raise Refusal(f"{planned.name} holds {held} values, and {whole} are needed", field=str(self._weights.path))
        for place in places:
            counts[place.name] += held if len(places) == 1 else math.prod(place.shape)

    def _copy(self, planned: Planned, out: torch.Tensor, number: int | None = None) -> None:
        """A tensor that lies in the file as in the model, or one of those that are stacked there."""
        shape = tuple(reversed(self._weights.tensor(planned.name).shape))[0 if number is None else 1 :]
        if shape != tuple(out.shape):
            text = f"{planned.name} is {list(shape)}, and a model of these settings has {list(out.shape)}"
            raise Refusal(text, field=str(self._weights.path), remedy=OTHER_CONFIG)
        flat = out.view(1, -1) if out.dim() < 2 else out.view(-1, out.shape[-1])
        for block in _blocks(*flat.shape):
            flat[block].copy_(self._dequantized(planned.name, number, block).reshape(flat[block].shape))

    def _undo(self, planned: Planned, name: str, out: torch.Tensor) -> None:
        for piece in self._weights.of(planned, self._place):
            if piece.place.name == name:
                fill(out, piece)
        _forget(self._weights.tensor(planned.name).source)

    def _dequantized(self, name: str, number: int | None, block: slice | None = None) -> torch.Tensor:
        """Values [rows, columns] of a tensor, or of one of those that are stacked in it."""
        tensor = self._weights.tensor(name)
        data = tensor.data if number is None else tensor.data[number]
        table = data.reshape(-1, data.shape[-1]) if data.ndim > 1 else data.reshape(1, -1)
        try:
            values = dequantize(table if block is None else table[block], tensor.tensor_type)
        except (ValueError, NotImplementedError, KeyError) as error:
            text = f"cannot dequantize {name} ({tensor.tensor_type.name}): {cause_of(error)}"
            raise Refusal(text, field=str(self._weights.path), remedy=REPLACE) from error
        copied = torch.from_numpy(np.array(values, np.float32))
        _forget(tensor.source)
        return copied


def _weight_files(folder: Path) -> list[Path]:
    try:
        return weight_files(folder)
    except ContractError as error:
        remedy = f"{REPLACE}; weights are read from safetensors only"
        raise Refusal(f"cannot read the weights of {folder}: {error.text}", field=str(folder), remedy=remedy) from error


def _check_filled(counts: Mapping[str, int], parameters: Mapping[str, torch.Tensor], where: Path) -> None:
    short = sorted(name for name, parameter in parameters.items() if counts.get(name, 0) != parameter.numel())
    if short:
        raise Refusal(f"{where.name} does not fill {first_few(short)} exactly once", field=str(where), remedy=REPLACE)


def _count(held: Sequence[_Held]) -> int:
    return sum(math.prod(part.place.shape) for part in held)


def _blocks(rows: int, columns: int) -> Iterator[slice]:
    step = max(1, PIECE // max(columns, 1))
    return (slice(start, start + step) for start in range(0, rows, step))


def _torch(values: np.ndarray, kind: str) -> torch.Tensor:
    """A copy of mapped values; NumPy has no bfloat16, so its bits come as whole numbers."""
    copied = torch.from_numpy(np.array(values))
    return copied.view(TORCH[kind]) if kind == "BF16" else copied


def _forget(source: mmap.mmap) -> None:
    """Let the pages of a mapping go: they are in the cache of the system, and need not be in ours as well."""
    if hasattr(mmap, "MADV_DONTNEED"):
        source.madvise(mmap.MADV_DONTNEED)
