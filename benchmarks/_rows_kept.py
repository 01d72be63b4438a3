"""A file of results that several processes change at once, row by row: each change is whole, and none is lost."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from logitproof.files.atomic import write_atomically

Result = dict[str, Any]


class Kept:
    """One JSON file. What is read is what some process wrote whole."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> Result:
        """What the file holds; nothing where there is none."""
        held: Result = json.loads(self.path.read_text("utf-8")) if self.path.is_file() else {}
        return held

    def change(self, merge: Callable[[Result], Result]) -> None:
        """Put what `merge` makes of the file's present content in its place, while no other process does."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # a lock on the folder leaves no file behind
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            write_atomically(self.path, json.dumps(merge(self.read()), indent=1) + "\n")
        finally:
            os.close(folder)
