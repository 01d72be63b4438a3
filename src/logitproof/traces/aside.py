"""The results of a run, whose rows lie in the store and are mapped only while somebody looks at them.

A mapping holds an open file and an area of the process, of which a system gives some thousands: a run of ten thousand prompts
has more traces than that.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from logitproof.errors import StoreFailed
from logitproof.traces.trace import Failure, Trace

Identity = tuple[int, int, int]


@dataclass(frozen=True)
class _Closed:
    """A trace without its rows [T, V], and the file that they are in, as it was when its checksum was verified."""

    trace: Trace
    path: Path
    identity: Identity
    dtype: np.dtype
    shape: tuple[int, ...]

    def opened(self) -> Trace:
        """The trace with its rows mapped, or with none where they are not kept; StoreFailed of a file that has changed."""
        try:
            if _identity(self.path) != self.identity:
                text = "its rows have changed since they were read"
                raise StoreFailed(text, where=str(self.path), remedy="let nothing else write into the store, and run it again")
            rows = np.memmap(self.path, dtype=self.dtype, mode="r", shape=self.shape)
        except FileNotFoundError:
            return replace(self.trace, logits=np.empty((0, *self.shape[1:]), self.dtype))
        return replace(self.trace, logits=rows)


class Aside(MutableMapping[str, Trace | Failure]):
    """Results by key. What is kept of a trace whose rows are a whole mapped file is the name of that file."""

    def __init__(self, results: Mapping[str, Trace | Failure] | None = None) -> None:
        self._kept: dict[str, Trace | Failure | _Closed] = {}
        self.update(results or {})

    def __getitem__(self, key: str) -> Trace | Failure:
        kept = self._kept[key]
        return kept.opened() if isinstance(kept, _Closed) else kept

    def __setitem__(self, key: str, result: Trace | Failure) -> None:
        self._kept[key] = _closed(result) if isinstance(result, Trace) else result

    def __delitem__(self, key: str) -> None:
        del self._kept[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._kept)

    def __len__(self) -> int:
        return len(self._kept)


def _closed(trace: Trace) -> Trace | _Closed:
    """The trace without its rows, where they are a mapped file from its first byte to its last."""
    rows = trace.logits
    if type(rows) is not np.memmap or not isinstance(rows.base, mmap.mmap) or rows.filename is None or rows.offset:
        return trace
    path = Path(rows.filename)
    try:
        identity = _identity(path)
    except FileNotFoundError:
        return trace
    if identity[1] != rows.nbytes or rows.mode != "r":
        return trace
    empty = np.empty((0, *rows.shape[1:]), rows.dtype)
    return _Closed(replace(trace, logits=empty), path, identity, rows.dtype, rows.shape)


def _identity(path: Path) -> Identity:
    state = path.stat()
    return state.st_ino, state.st_size, state.st_mtime_ns
