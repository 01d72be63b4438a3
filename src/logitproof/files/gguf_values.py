"""What a GGUF file holds, mapped: keys, the strings of an array, tensors. Each is made when it is asked for."""

from __future__ import annotations

import functools
import math
import mmap
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFValueType

from logitproof.errors import ModelError

AGAIN = "fetch or convert the file again and compare its sha256"
SCALARS = {
    GGUFValueType.UINT8: "u1", GGUFValueType.INT8: "i1", GGUFValueType.UINT16: "<u2", GGUFValueType.INT16: "<i2",
    GGUFValueType.UINT32: "<u4", GGUFValueType.INT32: "<i4", GGUFValueType.FLOAT32: "<f4", GGUFValueType.BOOL: "?",
    GGUFValueType.UINT64: "<u8", GGUFValueType.INT64: "<i8", GGUFValueType.FLOAT64: "<f8",
}  # fmt: skip
PLAIN = {
    GGMLQuantizationType.F16: "<f2", GGMLQuantizationType.F32: "<f4", GGMLQuantizationType.F64: "<f8",
    GGMLQuantizationType.I8: "i1", GGMLQuantizationType.I16: "<i2", GGMLQuantizationType.I32: "<i4",
    GGMLQuantizationType.I64: "<i8",
}  # fmt: skip
"""Tensor types that NumPy knows; all others are bytes of blocks."""


@dataclass(frozen=True)
class Texts:
    """The strings of an array: one mapping, and the byte at which each string ends. A string is made when asked for."""

    place: str
    source: mmap.mmap = field(repr=False)
    begin: int
    ends: np.ndarray = field(repr=False)
    """uint64 [n]; string i lies behind its length of 8 bytes, which lies at the end of string i - 1."""

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, index: int) -> str:
        position = range(len(self))[index]
        start = self.begin if position == 0 else int(self.ends[position - 1])
        return decoded(self.source[start + 8 : int(self.ends[position])], f"{self.place}[{position}]")

    def __iter__(self) -> Iterator[str]:
        return iter(self.tolist())

    def tolist(self) -> list[str]:
        """All of them; ModelError names the first that is no UTF-8."""
        if not len(self):
            return []
        starts = np.concatenate([[np.uint64(self.begin)], self.ends[:-1]]) - np.uint64(self.begin)
        block = np.frombuffer(self.source, np.uint8, int(self.ends[-1]) - self.begin, self.begin).copy()
        kept = np.ones(len(block), bool)
        for byte in range(8):
            kept[starts + np.uint64(byte)] = False
        separator = next((char for char in range(32) if not (block[kept] == char).any()), None)
        if separator is None:
            return [self[index] for index in range(len(self))]
        # Each length becomes one control character that no string holds; it cannot be a part of another character either.
        kept[starts], block[starts] = True, separator
        try:
            return str(block[kept].tobytes(), "utf-8").split(chr(separator))[1:]
        except UnicodeDecodeError:
            return [self[index] for index in range(len(self))]  # raises, with the place


@dataclass(frozen=True)
class Field:
    """One key of the header: its GGUF types (an array's with that of its items) and where it begins."""

    name: str
    offset: int
    types: tuple[GGUFValueType, ...]
    value: Any = field(repr=False)
    """A number, a text, `Texts`, or a mapped array of numbers."""

    def __len__(self) -> int:
        return len(self.value) if isinstance(self.value, Texts | np.ndarray) else 1

    def contents(self) -> Any:
        """The value in Python's own types."""
        return self.value.tolist() if isinstance(self.value, Texts | np.ndarray) else self.value


@dataclass(frozen=True)
class Tensor:
    """One tensor, not read yet. `shape` is in ggml's order: the length of a row comes first."""

    name: str
    tensor_type: GGMLQuantizationType
    shape: tuple[int, ...]
    offset: int
    data_offset: int
    n_bytes: int
    source: mmap.mmap = field(repr=False)

    @property
    def n_elements(self) -> int:
        return math.prod(self.shape)

    @functools.cached_property
    def data(self) -> np.ndarray:
        """The mapped values in NumPy's order, or for types of blocks their bytes [..., bytes of a row]; read only."""
        rows = tuple(reversed(self.shape))
        if self.tensor_type in PLAIN:
            kind = np.dtype(PLAIN[self.tensor_type])
        else:
            block, size = GGML_QUANT_SIZES[self.tensor_type]
            kind, rows = np.dtype("u1"), (*rows[:-1], rows[-1] // block * size)
        return np.frombuffer(self.source, kind, self.n_bytes // kind.itemsize, self.data_offset).reshape(rows)

    def forget(self) -> None:
        """Give the memory of what was read back; whoever reads again has it read from the file again."""
        if hasattr(mmap, "MADV_DONTNEED"):
            whole = self.data_offset // mmap.PAGESIZE * mmap.PAGESIZE
            self.source.madvise(mmap.MADV_DONTNEED, whole, self.data_offset + self.n_bytes - whole)


def decoded(data: bytes, place: str) -> str:
    try:
        return str(data, "utf-8")
    except UnicodeDecodeError as error:
        text = f"is not UTF-8 text: byte {error.start} of it is {data[error.start]:#04x}"
        raise ModelError(text, where=place, remedy=AGAIN) from None
