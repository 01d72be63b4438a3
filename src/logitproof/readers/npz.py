"""The format `npz`: named NumPy arrays in one file, `logits` among them."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

from logitproof.files.arrays import read_archive
from logitproof.readers import Peek, Reader
from logitproof.readers._arrays import dump_of
from logitproof.traces.dump import Dump

ZIP = b"PK\x03\x04"


@dataclass
class Npz(Reader):
    """A `.npz` file with `logits` [T, V] and, if it has them, `token_ids` (`tokens`, `input_ids`); without pickles."""

    def recognizes(self, peek: Peek) -> bool:
        return any(name.endswith(".npy") for name in members(peek))

    def read(self, path: Path) -> Dump:
        return dump_of(read_archive(path), path)


def members(peek: Peek) -> list[str]:
    """Names of the members of a zip file, nothing of another one or of one that is damaged."""
    if not peek.head.startswith(ZIP):
        return []
    try:
        with zipfile.ZipFile(peek.path) as archive:
            return archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, RuntimeError, EOFError):
        return []
