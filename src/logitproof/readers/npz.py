"""The format `npz`: named NumPy arrays in one file, `logits` among them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from logitproof.files.arrays import archive_members, read_archive
from logitproof.readers import Peek, Reader
from logitproof.readers._arrays import dump_of
from logitproof.traces.dump import Dump


@dataclass
class Npz(Reader):
    """A `.npz` file with `logits` [T, V] and, if it has them, `token_ids` (`tokens`, `input_ids`); without pickles."""

    def recognizes(self, peek: Peek) -> bool:
        return any(name.endswith(".npy") for name in archive_members(peek.path, peek.head))

    def read(self, path: Path) -> Dump:
        return dump_of(read_archive(path), path)
