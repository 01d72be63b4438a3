"""Memory-mapped arrays whose pages are let go of, so that what is resident does not grow with the file."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from typing import Any

import numpy as np

ROWS = 32
"""Rows that are looked at, at most, before their pages are let go."""
BYTES = 1 << 21
"""What these rows take, at most, where one row does not take more."""


def let_go(rows: Any) -> None:
    """Let go of the pages of a mapped array that is only read; nothing happens to any other array."""
    if not isinstance(rows, np.memmap) or rows.mode != "r" or not rows.nbytes:
        return
    owner: Any = rows.base
    while isinstance(owner, np.ndarray):
        owner = owner.base
    if not isinstance(owner, mmap.mmap) or not hasattr(mmap, "MADV_DONTNEED"):
        return
    origin = np.frombuffer(owner, np.uint8).__array_interface__["data"][0]
    first, end = (place - origin for place in np.lib.array_utils.byte_bounds(rows))  # also of rows in the reverse order
    begin = first // mmap.PAGESIZE * mmap.PAGESIZE
    owner.madvise(mmap.MADV_DONTNEED, begin, min(end, len(owner)) - begin)


def rows_at_once(rows: Any, most: int = ROWS) -> int:
    """How many rows of an array [T, V] are looked at before their pages are let go."""
    return int(min(most, max(1, BYTES // max(1, rows.shape[1] * rows.dtype.itemsize))))


def in_blocks(rows: Any) -> Iterator[tuple[int, Any]]:
    """(first row, rows [n, V]) of an array [T, V], whose pages are let go behind the reader."""
    count = rows_at_once(rows)
    for start in range(0, len(rows), count):
        block = rows[start : start + count]
        yield start, block
        let_go(block)


def picked(rows: Any, columns: Any) -> np.ndarray:
    """A copy of some columns of an array [T, V]."""
    blocks = [np.array(block[:, columns]) for _, block in in_blocks(rows)]
    return np.concatenate(blocks) if blocks else np.array(rows[:, columns])
