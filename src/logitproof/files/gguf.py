"""The GGUF container: keys and tensors of a file that nobody vouches for, mapped and read when they are asked for.

Every length, count, type, dimension and offset is compared with the file's own length, in Python's integers, before
anything is allocated or looped over. The format is that of ggml's docs/gguf.md, versions 2 and 3, little-endian:

    "GGUF", u32 version, u64 tensors, u64 keys
    a key:    text name, u32 type, value             text:  u64 length, bytes;  array:  u32 type, u64 count, values
    a tensor: text name, u32 dimensions, u64 each, u32 type, u64 offset behind the header
"""

from __future__ import annotations

import math
import mmap
import struct
from array import array
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFValueType

from logitproof.errors import ModelError
from logitproof.files.causes import cause_of
from logitproof.files.gguf_parts import BESIDE, COUNT, NUMBER, TENSORS, PartError, other_parts
from logitproof.files.gguf_values import AGAIN, SCALARS, Field, Tensor, Texts, decoded
from logitproof.files.untrusted import regular_size

MAGIC = b"GGUF"
VERSIONS = (2, 3)
ALIGNMENT = 32
"""Where tensors begin, in bytes, unless `general.alignment` says otherwise."""

HEADER_LIMIT = 1 << 30
FIELD_LIMIT, TENSOR_LIMIT, NAME_LIMIT, TEXT_LIMIT = 1 << 16, 1 << 20, (1 << 16) - 1, 1 << 26
ITEM_LIMIT, ITEMS_LIMIT = 1 << 22, 1 << 24
"""Items of one array and of all; the largest vocabularies have some 2^18 tokens and 2^19 merges."""
DIMENSIONS = 4
"""ggml's GGML_MAX_DIMS."""
LEAST_FIELD, LEAST_TENSOR = 8 + 4 + 1, 8 + 4 + 4 + 8
"""Bytes of the smallest entries, by which a count is compared with the rest of the file."""

U32, U64 = struct.Struct("<I"), struct.Struct("<Q")


class GgufFile:
    """The header of a GGUF file, checked. Raises ModelError that names file, place and remedy for anything that cannot be.

    The first part of a model in several files has the tensors of all; with `alone` a part is read by itself.
    """

    def __init__(self, path: Path, *, alone: bool = False) -> None:
        self.path = path
        header = _Header(path)
        self.version = header.version()
        tensors = header.count("tensor count", LEAST_TENSOR, TENSOR_LIMIT)
        fields = header.count("key count", LEAST_FIELD, FIELD_LIMIT)
        self.fields: dict[str, Field] = {}
        for number in range(fields):
            key = header.field(f"key {number}")
            if key.name in self.fields:
                raise header.refusal(key.name, "stands twice")
            self.fields[key.name] = key
        places = [header.tensor(f"tensor {number}") for number in range(tensors)]
        self.alignment = _alignment(self.fields.get("general.alignment"), header)
        self.data_offset = -(-header.at // self.alignment) * self.alignment
        self.tensors = [header.placed(self.data_offset, self.alignment, place) for place in places]
        _check_apart(self.tensors, header)
        if not alone:
            self._read_other_parts()

    def get_field(self, name: str) -> Field | None:
        """The key of this name, if there is one."""
        return self.fields.get(name)

    def value(self, name: str, default: Any = None) -> Any:
        """What a key holds, in Python's own types."""
        return self.fields[name].contents() if name in self.fields else default

    def _read_other_parts(self) -> None:
        others = other_parts(self.path, self.value(NUMBER), self.value(COUNT))
        names = {tensor.name for tensor in self.tensors}
        for number, path in enumerate(others, 1):
            part = GgufFile(path, alone=True)
            place = part.value(NUMBER), part.value(COUNT)
            if place != (number, len(others) + 1):
                text = f"says split.no {place[0]} of {place[1]}, and should be {number} of {len(others) + 1}"
                raise PartError(text, where=str(path), remedy=BESIDE)
            if twice := sorted(names & {tensor.name for tensor in part.tensors}):
                text = f"has the tensor {twice[0]}, which another part has, too"
                raise PartError(text, where=str(path), remedy=BESIDE)
            self.tensors += part.tensors
            names |= {tensor.name for tensor in part.tensors}
        total = self.value(TENSORS)
        if others and isinstance(total, int) and total != len(self.tensors):
            text = f"is of {total} tensors by {TENSORS}, and all parts have {len(self.tensors)}"
            raise PartError(text, where=str(self.path), remedy=BESIDE)


class _Header:
    """A place in the header, and what stands there. Nothing is read before its length is compared with the file's."""

    def __init__(self, path: Path) -> None:
        self.path, self.at, self.items = path, 0, 0
        self.size = regular_size(path, ModelError)
        if self.size < len(MAGIC) + 4 + 8 + 8:
            raise self.refusal("size", f"{self.size} bytes hold no header: cut off, or no GGUF file")
        try:
            with path.open("rb") as file:
                self.source = mmap.mmap(file.fileno(), self.size, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise ModelError(f"cannot be read: {cause_of(error)}", where=str(path), remedy="correct the path") from None
        self.end = min(self.size, HEADER_LIMIT)

    def refusal(self, place: str, text: str, remedy: str = AGAIN) -> ModelError:
        return ModelError(f"{text} (at byte {self.at})", where=f"{self.path}: {place}", remedy=remedy)

    def version(self) -> int:
        magic = self.source[:4]
        if magic != MAGIC:
            raise self.refusal("magic", f"begins with {magic!r}, not {MAGIC!r}: no GGUF file")
        self.at = 4
        version = self.number("version", U32)
        if version & 0xFFFF == 0:
            text = "is written big-endian, and is read little-endian only"
            raise self.refusal("version", text, "convert it with gguf's gguf-convert-endian, or convert the model again")
        if version not in VERSIONS:
            raise self.refusal("version", f"is {version}, known are {VERSIONS[0]} and {VERSIONS[1]}")
        return version

    def number(self, place: str, layout: struct.Struct) -> int:
        self.needs(layout.size, place)
        value: int = layout.unpack_from(self.source, self.at)[0]
        self.at += layout.size
        return value

    def needs(self, count: int, place: str) -> None:
        if count > self.end - self.at:
            limit = f"the file ends at {self.size}" if self.end == self.size else f"a header ends at {HEADER_LIMIT}"
            raise self.refusal(place, f"needs {count} bytes, and {limit}: cut off, or a length is wrong")

    def count(self, place: str, least: int, limit: int) -> int:
        """A number of things of at least so many bytes each."""
        count = self.number(place, U64)
        if count > limit or count * least > self.end - self.at:
            raise self.refusal(place, f"is {count}, in a file of {self.size} bytes; {limit} are read at most")
        return count

    def text(self, place: str, limit: int) -> str:
        length = self.number(place, U64)
        if length > limit:
            raise self.refusal(place, f"is a text of {length} bytes; {limit} are read at most")
        self.needs(length, place)
        start, self.at = self.at, self.at + length
        return decoded(self.source[start : self.at], f"{self.path}: {place}")

    def field(self, place: str) -> Field:
        offset = self.at
        name = self.text(place, NAME_LIMIT)
        kind = self.kind(name)
        if kind == GGUFValueType.STRING:
            return Field(name, offset, (kind,), self.text(name, TEXT_LIMIT))
        if kind == GGUFValueType.ARRAY:
            item = self.kind(name)
            if item == GGUFValueType.ARRAY:
                raise self.refusal(name, "is an array of arrays, which no model file holds")
            return Field(name, offset, (kind, item), self.array(name, item))
        return Field(name, offset, (kind,), self.numbers(name, np.dtype(SCALARS[kind]), 1).tolist()[0])

    def kind(self, place: str) -> GGUFValueType:
        raw = self.number(place, U32)
        try:
            return GGUFValueType(raw)
        except ValueError:
            raise self.refusal(place, f"has the unknown type {raw}") from None

    def array(self, name: str, item: GGUFValueType) -> Texts | np.ndarray:
        text = item == GGUFValueType.STRING
        kind = None if text else np.dtype(SCALARS[item])
        count = self.count(name, 8 if kind is None else kind.itemsize, ITEM_LIMIT)
        self.items += count
        if self.items > ITEMS_LIMIT:
            raise self.refusal(name, f"brings all arrays to {self.items} items; {ITEMS_LIMIT} are read at most")
        return self.texts(name, count) if kind is None else self.numbers(name, kind, count)

    def numbers(self, name: str, kind: np.dtype[Any], count: int) -> np.ndarray:
        self.needs(count * kind.itemsize, name)
        start, self.at = self.at, self.at + count * kind.itemsize
        return np.frombuffer(self.source, kind, count, start) if count else np.empty(0, kind)

    def texts(self, name: str, count: int) -> Texts:
        """Walk along the lengths: one addition a string, no object kept but the place of its end."""
        begin, at, ends = self.at, self.at, array("Q")
        length_at, note = U64.unpack_from, ends.append
        try:
            for _ in range(count):
                at += 8 + length_at(self.source, at)[0]
                note(at)
        except (struct.error, OverflowError):  # a place past the file's end, or past 2^64
            at = self.size + 1
        if at > self.end:
            raise self.refusal(f"{name}[{len(ends)}]", f"goes beyond the {self.size} bytes of the file")
        self.at = at
        return Texts(f"{self.path}: {name}", self.source, begin, np.frombuffer(ends, np.uint64))

    def tensor(self, place: str) -> tuple[str, tuple[int, ...], GGMLQuantizationType, int]:
        """(name, shape, type, offset) of a tensor."""
        name = self.text(place, NAME_LIMIT)
        dimensions = self.number(name, U32)
        if dimensions > DIMENSIONS:
            raise self.refusal(name, f"has {dimensions} dimensions; {DIMENSIONS} are read at most")
        shape = tuple(self.number(name, U64) for _ in range(dimensions))
        if 0 in shape:
            raise self.refusal(name, f"has the shape {list(shape)}, so it holds nothing")
        raw = self.number(name, U32)
        try:
            kind = GGMLQuantizationType(raw)
        except ValueError:
            remedy = f"{AGAIN}; types that are known: {', '.join(known.name for known in GGML_QUANT_SIZES)}"
            raise self.refusal(name, f"has the unknown tensor type {raw}", remedy) from None
        block = GGML_QUANT_SIZES[kind][0]
        if (shape[0] if shape else 1) % block:
            raise self.refusal(name, f"has the shape {list(shape)}, and {kind.name} holds rows of whole blocks of {block}")
        return name, shape, kind, self.number(name, U64)

    def placed(self, begin: int, alignment: int, entry: tuple[str, tuple[int, ...], GGMLQuantizationType, int]) -> Tensor:
        """The tensor, if its place is inside the file."""
        name, shape, kind, offset = entry
        block, size = GGML_QUANT_SIZES[kind]
        count = math.prod(shape) // block * size
        if offset % alignment:
            raise self.refusal(name, f"lies at offset {offset}, which is no multiple of the alignment {alignment}")
        if begin + offset + count > self.size:
            text = (
                f"has the shape {list(shape)} of {kind.name} and ends at byte {begin + offset + count}, the file at {self.size}"
            )
            raise self.refusal(name, f"{text}: cut off, or its description is wrong")
        return Tensor(name, kind, shape, offset, begin + offset, count, self.source)


def _alignment(key: Field | None, header: _Header) -> int:
    if key is None:
        return ALIGNMENT
    value = key.value
    if key.types != (GGUFValueType.UINT32,) or value < 1 or value & (value - 1):
        raise header.refusal(key.name, f"is {value!r}, not a power of two of type UINT32")
    return int(value)


def _check_apart(tensors: list[Tensor], header: _Header) -> None:
    """No name stands twice and no byte belongs to two tensors."""
    names: set[str] = set()
    for tensor in tensors:
        if tensor.name in names:
            raise header.refusal(tensor.name, "stands twice")
        names.add(tensor.name)
    ordered = sorted(tensors, key=lambda tensor: tensor.offset)
    for before, after in pairwise(ordered):
        if before.offset + before.n_bytes > after.offset:
            raise header.refusal(after.name, f"lies at offset {after.offset}, within the bytes of {before.name}")
