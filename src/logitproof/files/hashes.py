"""sha256 of files, read once for every state of a file on this machine.

A large file's hash is kept in the user's own cache folder under its device, inode, size, mtime and ctime in nanoseconds. The
ctime is the kernel's: who changes a file's bytes cannot set it back. A file that changed so lately that its clock might not
tell another change apart is hashed and not kept.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from logitproof.errors import ContractError, EnvironmentFailed
from logitproof.files.atomic import content_key, write_atomically

State = tuple[int, int, int, int, int]
"""Device, inode, size, mtime and ctime in nanoseconds."""
KEPT_FROM = 1 << 24
"""Bytes from which a hash is worth a file: below, reading the content is as fast as finding what is kept."""
SETTLED_NS = 2_000_000_000
"""Age from which a change gives another time than the last one; FAT, the coarsest, counts in steps of two seconds."""
FILES_LIMIT = 20_000
"""Files in a folder that a contract names: more is a disk, and no part of an engine."""
DIGITS = frozenset("0123456789abcdef")


def file_sha256(path: Path) -> str:
    """sha256 of a file's content, hexadecimal; raises EnvironmentFailed where the file is written while it is read."""
    return _sha256(path, file_state(path))


def folder_sha256(folder: Path) -> str:
    """A hash of every file's content and place in a folder and the folders in it; where they lie and when is no part of it.

    Raises ContractError of more than `FILES_LIMIT` files, EnvironmentFailed of a file that is written meanwhile, and OSError.
    """
    return content_key({name: file_sha256(path) for name, path in _files(folder)})


def folder_state(folder: Path) -> tuple[tuple[str, State], ...]:
    """The states of a folder's files: as long as they stay, its content does. Raises ContractError and OSError, as above."""
    return tuple((name, file_state(path)) for name, path in _files(folder))


def cache_folder() -> Path:
    """Where hashes are kept; `LOGITPROOF_CACHE` names another folder, empty it turns keeping off."""
    named = os.environ.get("LOGITPROOF_CACHE")
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(named) / "sha256" if named else home / "logitproof/sha256"


@functools.lru_cache(maxsize=1 << 16)
def _sha256(path: Path, state: State) -> str:
    place = _place(path, state)
    if place is not None and (kept := _kept(place)):
        return kept
    began = time.time_ns()
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if file_state(path) != state:
        raise EnvironmentFailed("is being written: it changed while it was hashed", where=str(path), remedy="run it again")
    if place is not None and began - max(state[3:]) > SETTLED_NS:
        # a folder that cannot be written costs time the next time, nothing else
        with contextlib.suppress(EnvironmentFailed, OSError):
            write_atomically(place, digest + "\n")
    return digest


def file_state(path: Path) -> State:
    """The state of a file: as long as it stays, nobody has written to it or put another there."""
    state = path.stat()
    return state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    """Every regular file with its path in the folder, in order; a folder that is reached by two links is entered once."""
    entered: set[tuple[int, int]] = set()
    count = 0
    for place, folders, names in os.walk(folder, followlinks=True):
        state = os.stat(place)
        if (state.st_dev, state.st_ino) in entered:
            folders.clear()
            continue
        entered.add((state.st_dev, state.st_ino))
        folders.sort()
        for path in (Path(place, name) for name in sorted(names)):
            if not path.is_file():
                continue
            if (count := count + 1) > FILES_LIMIT:
                text = f"has more than {FILES_LIMIT:,} files, of which each would be a part of what the engine is"
                raise ContractError(text, where=str(folder), remedy="name the file or the smaller folder that is meant")
            yield path.relative_to(folder).as_posix(), path


def _place(path: Path, state: State) -> Path | None:
    """The file that holds the hash of this state, or None for what is not kept."""
    if state[2] < KEPT_FROM or os.environ.get("LOGITPROOF_CACHE") == "":
        return None
    name = content_key({"path": str(path.resolve()), "state": list(state)})
    return cache_folder() / name[:2] / name[2:]


def _kept(place: Path) -> str | None:
    """What is kept there, if it is a hash, in a file of this user that no other may write."""
    try:
        state = place.stat()
        text = place.read_text("ascii").strip()
    except (OSError, ValueError):
        return None
    is_own = state.st_uid == os.getuid() and not state.st_mode & 0o022
    return text if is_own and len(text) == 64 and set(text) <= DIGITS else None
