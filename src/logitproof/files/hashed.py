"""sha256 of files, read once for every state of a file in a process; by its state a change is seen without reading."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

State = tuple[int, int, int, int]
"""Inode, size, mtime and ctime in nanoseconds: a file that was replaced or written to and put back has another one."""


def file_state(path: Path) -> State:
    """The state of a file."""
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def file_sha256(path: Path) -> str:
    """sha256 of a file's content; of a file that changes while it is read, that of its new content."""
    while True:
        state = file_state(path)
        digest = _sha256(str(path.absolute()), state)
        if file_state(path) == state:
            return digest


@functools.lru_cache(maxsize=1 << 16)
def _sha256(path: str, state: State) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
