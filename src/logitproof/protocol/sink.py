"""Rows into the file that a request names, block after block: no engine needs to hold all of them."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np

from logitproof.rows.top import is_top


class RowSink:
    """The file of one answer. Use as a context manager; `announce` closes it and says what was written.

    `write` takes blocks [n, V] of float32 or float64, or `top_rows` [n, K], all of one kind and width, in order. Rows before
    `first` are not wanted: whoever writes them may, and they are dropped; who need not compute them says `skip`.
    """

    def __init__(self, path: Path, first: int = 0) -> None:
        self.path, self.first = path, first
        self.count = 0
        self._passed = 0
        self._files: dict[str, BinaryIO] = {}
        self._kind: tuple[np.dtype[Any], int] | None = None
        self._is_probable = False
        self._held: list[int] | None = None

    def __enter__(self) -> RowSink:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._close()

    def write(self, rows: np.ndarray) -> None:
        """Add rows behind those that are there; raises ValueError where they are not of the kind of the first."""
        unwanted = min(max(self.first - self._passed, 0), len(rows))
        self._passed += len(rows)
        self._write(rows[unwanted:])

    def scatter(self, rows: np.ndarray, positions: Sequence[int], count: int) -> None:
        """The `positions` alone of `count` rows, whole ones; all others are NaN and announced as not held."""
        if is_top(rows) or len(rows) != len(positions):
            raise ValueError(f"{len(rows)} rows for {len(positions)} positions; of best entries, leave a row without any")
        places = {position: row for row, position in enumerate(positions)}
        dtype = np.float64 if rows.dtype == np.float64 else np.float32
        empty = np.full((1, rows.shape[1]), np.nan, dtype)
        for position in range(count):
            row = places.get(position)
            self.write(empty if row is None else rows[row : row + 1].astype(dtype))
        self._held = [position - self.first for position in positions if position >= self.first]

    def skip(self, count: int) -> None:
        """So many rows before `first` were not computed; raises ValueError where one of them is wanted."""
        if self._passed + count > self.first:
            raise ValueError(f"row {self.first} is wanted, and {self._passed + count} rows were left out")
        self._passed += count

    def _write(self, rows: np.ndarray) -> None:
        if rows.ndim != 2:
            raise ValueError(f"rows of shape {list(rows.shape)}, [positions, vocabulary] is asked for")
        top = is_top(rows)
        dtype = rows.dtype if top else np.dtype("<f8" if rows.dtype == np.float64 else "<f4")
        kind = (dtype, rows.shape[1])
        if self._kind is None:
            self._kind = kind
            for name in (".topk_ids", ".topk_logprobs") if top else ("",):
                self._files[name] = open(f"{self.path}{name}", "wb")  # noqa: SIM115
        if kind != self._kind:
            raise ValueError(f"rows of {kind[0]} and width {kind[1]} behind rows of {self._kind[0]} and width {self._kind[1]}")
        self.count += len(rows)
        if not top:
            self._add("", rows, dtype)
            return
        self._add(".topk_ids", rows["id"], np.dtype("<i4"))
        self._add(".topk_logprobs", rows["log_probability"], np.dtype("<f4"))
        self._is_probable = self._is_probable or not np.isnan(rows["log_probability"]).all()

    def announce(self) -> dict[str, Any]:
        """The files as the protocol announces them, complete."""
        if self._kind is None:
            self._write(np.empty((0, 0), np.float32))
        assert self._kind is not None
        self._close()
        dtype, width = self._kind
        shape = [self.count, width]
        if "" in self._files:
            whole = {"logits": {"path": str(self.path), "dtype": dtype.newbyteorder("=").name, "shape": shape}}
            return whole if self._held is None else {**whole, "held": self._held}
        probable = f"{self.path}.topk_logprobs"
        files = {"topk_ids": {"path": f"{self.path}.topk_ids", "dtype": "int32", "shape": shape}}
        if self._is_probable:
            return {**files, "topk_logprobs": {"path": probable, "dtype": "float32", "shape": shape}}
        Path(probable).unlink()
        return files

    def _add(self, name: str, rows: np.ndarray, dtype: np.dtype[Any]) -> None:
        # not `tofile`: what it has buffered when the disk is full is lost without a word
        data = np.ascontiguousarray(rows, dtype).data
        with _full_disk(f"{self.path}{name}", data.nbytes):
            self._files[name].write(data)

    def _close(self) -> None:
        for name, file in self._files.items():
            with _full_disk(f"{self.path}{name}", 0):
                file.close()


@contextlib.contextmanager
def _full_disk(path: str, size: int) -> Iterator[None]:
    """A disk that is full is told with the file, and with how many bytes were to be added where that is known."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        more = f"{size} bytes more for " if size else ""
        raise OSError(error.errno, error.strerror, f"{more}{path}") from None
