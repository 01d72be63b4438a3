"""Readers: file formats of logits, tokens and tensors, read into a `Dump` and, where useful, written from one.

To add one, put a file here (or in a package of yours, under the entry-point group `logitproof.readers`).
The file's name is the format's name in `logitproof convert --from NAME`; the one subclass of `Reader` in
it is the reader; its docstring is its help.

    @dataclass
    class Mine(Reader):
        "MYDUMP: char[6] magic, u32 vocabulary, token ids and float32 logits."

        def recognizes(self, peek):   return peek.head.startswith(b"MYDUMP")
        def read(self, path):         ...; return Dump((DumpedPrompt("0", ids, len(ids), positions, logits),), V)

A file is never trusted: sizes in a header are compared with the size of the file before anything is
allocated, nothing is unpickled, and `dump.checked` looks at every number afterwards. Raise
`dump.refusal(path, field, what, remedy)` for a bad file.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from logitproof.dump import Dump, refusal

HEAD = 4096
JSON_LIMIT = 1 << 30
"""Bytes of the largest JSON or text file that is read: more than that belongs into a binary format."""


@dataclass(frozen=True)
class Peek:
    """What is looked at to recognize a format: the first bytes, the size, and the JSON if it is any."""

    path: Path

    @functools.cached_property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.is_file() else 0

    @functools.cached_property
    def head(self) -> bytes:
        if not self.path.is_file():
            return b""
        with self.path.open("rb") as file:
            return file.read(HEAD)

    @functools.cached_property
    def lines(self) -> list[str]:
        """The first lines, if the head is text."""
        text = self.head.decode("utf-8", "ignore")
        return [] if "\0" in text else text.splitlines()

    @functools.cached_property
    def json(self) -> Any:
        """The JSON value of the file, None if it is none."""
        if self.head.lstrip()[:1] not in (b"{", b"[") or self.size > JSON_LIMIT:
            return None
        try:
            return json.loads(self.path.read_text("utf-8"))
        except (ValueError, OSError, RecursionError):
            return None

    @property
    def keys(self) -> set[str]:
        """The keys of the JSON object, or of the first object of a list."""
        first = self.json[0] if isinstance(self.json, list) and self.json else self.json
        return set(first) if isinstance(first, dict) else set()


class Reader:
    """One file format. Subclasses are dataclasses without options."""

    def recognizes(self, peek: Peek) -> bool:
        """Whether the content looks like this format; a name or an ending decides nothing."""
        raise NotImplementedError

    def read(self, path: Path) -> Dump:
        """The dump in the file; raises ContractError with file, field and remedy. `convert.open_dump` checks the numbers."""
        raise NotImplementedError

    def write(self, dump: Dump, path: Path) -> None:
        """Write the dump; raises ContractError for what this format cannot hold."""
        raise refusal(path, "", f"{type(self).__name__} files are read, not written", "choose another format with --to")
