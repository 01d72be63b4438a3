"""The rows of a trace in about a third of their bytes, in one file, and the array that reads them row by row.

"LPROWS\\0\\0", u32 version, u32 bytes of a logit (4 or 8), u64 positions T, u64 vocabulary V
u64 place of every row and of the end of the last      T + 1, from the file's beginning
the rows, as `fewbits.py` writes them
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, cast

import numpy as np

from logitproof.errors import ContractError
from logitproof.files.hashes import file_sha256
from logitproof.files.mapped import let_go
from logitproof.files.untrusted import refusal, regular_size
from logitproof.traces.fewbits import decode

MAGIC = b"LPROWS\0\0"
FORMAT = 1
HEAD = struct.Struct("<8sIIQQ")
KINDS: dict[int, np.dtype[Any]] = {4: np.dtype("<f4"), 8: np.dtype("<f8")}
LARGEST = 1 << 31
REMEDY = "run `logitproof check` again"


class CompactRows:
    """Logits [T, V] that are decoded when they are read; to its readers an array, of which rows are asked for.

    One row for an integer, an array [n, V] for a slice or a list of positions, and of a pair the second part of the first.
    """

    ndim = 2

    def __init__(self, path: Path, shape: tuple[int, int], kind: np.dtype[Any], ends: np.ndarray, data: np.ndarray) -> None:
        self.path, self.shape, self.dtype = path, shape, kind.newbyteorder("=")
        self._kind, self._ends, self._data = kind, ends, data

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def size(self) -> int:
        return self.shape[0] * self.shape[1]

    @property
    def stored_bytes(self) -> int:
        """Bytes that the rows take as they lie."""
        return len(self._data)

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self._row(position) for position in range(len(self)))

    def __getitem__(self, rows: Any) -> Any:
        if isinstance(rows, tuple):
            first, *rest = rows
            return self[first][(..., *rest)]
        if isinstance(rows, int | np.integer):
            return self._row(range(len(self))[int(rows)])
        return self._block(np.arange(len(self))[rows])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self._block(np.arange(len(self))), dtype)

    def _block(self, positions: Sequence[int] | np.ndarray) -> np.ndarray:
        block = np.empty((len(positions), self.shape[1]), self.dtype)
        for place, position in enumerate(positions):
            block[place] = self._row(int(position))
        return block

    def _row(self, position: int) -> np.ndarray:
        data = self._data[int(self._ends[position]) : int(self._ends[position + 1])]
        try:
            return decode(data, self.shape[1], self._kind).astype(self.dtype, copy=False)
        except ValueError as error:
            raise refusal(self.path, f"row {position}", str(error), REMEDY) from None
        finally:
            let_go(data)


def is_compact(rows: object) -> bool:
    """Whether rows were kept in few bits: KL divergence is theirs to 1e-6 nats, and single logits are not."""
    return isinstance(rows, CompactRows)


def open_compact(path: Path, sha256: str) -> np.ndarray:
    """The rows of a file; ContractError where it is gone, damaged, or another than was written.

    Typed as what it stands for: `CompactRows` answers what readers of a trace ask an array.
    """
    size = regular_size(path)
    if size < HEAD.size or file_sha256(path) != sha256:
        raise refusal(path, "sha256", "is not that of its record: a byte has changed since it was written", REMEDY)
    data = np.memmap(path, np.uint8, "r")
    magic, version, width, positions, vocabulary = HEAD.unpack(data[: HEAD.size].tobytes())
    if magic != MAGIC or version != FORMAT or width not in KINDS:
        raise refusal(path, "head", f"is of no version that this one reads, which is {FORMAT}", REMEDY)
    begin = HEAD.size + 8 * (positions + 1)
    if not 0 < vocabulary < LARGEST or positions >= LARGEST or begin > size:
        raise refusal(path, "head", f"says {positions} rows of {vocabulary}, in {size} bytes", REMEDY)
    ends = data[HEAD.size : begin].view("<u8")
    if ends[0] != begin or ends[-1] != size or (np.diff(ends.astype(np.int64)) <= 0).any():
        raise refusal(path, "places", "do not rise from the head to the end of the file", REMEDY)
    return cast(np.ndarray, CompactRows(path, (positions, vocabulary), KINDS[width], ends, data))


class CompactWriter:
    """Writes one file, row after row in their order. Use as a context manager; the places are written at its end."""

    def __init__(self, path: Path, shape: tuple[int, int], kind: np.dtype[Any]) -> None:
        self.path, self.shape, self.width = path, shape, kind.itemsize
        self._ends = [HEAD.size + 8 * (shape[0] + 1)]

    def __enter__(self) -> CompactWriter:
        self._file: BinaryIO = self.path.open("wb")
        self._file.write(HEAD.pack(MAGIC, FORMAT, self.width, *self.shape))
        self._file.write(bytes(8 * (self.shape[0] + 1)))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with self._file:
            if error is None:
                if len(self._ends) != self.shape[0] + 1:
                    raise ContractError(f"{len(self._ends) - 1} rows of {self.shape[0]} were written", where=str(self.path))
                self._file.seek(HEAD.size)
                self._file.write(np.array(self._ends, "<u8").tobytes())

    def write(self, row: bytes) -> None:
        """Add the next row."""
        self._file.write(row)
        self._ends.append(self._ends[-1] + len(row))
