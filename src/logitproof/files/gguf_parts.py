"""A GGUF model in several files, as `llama-gguf-split` makes them, and which files they are.

As llama.cpp has it, the first is named, and the others are found by its name: `NAME-00001-of-00003.gguf`. Each has a header of
its own; settings and vocabulary stand in the first alone, and each says which part of how many it is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from logitproof.errors import ModelError

NUMBER, COUNT, TENSORS = "split.no", "split.count", "split.tensors.count"
NAME = re.compile(r"(?P<stem>.+)-(?P<number>[0-9]{5})-of-(?P<count>[0-9]{5})\.gguf", re.DOTALL)
BESIDE = "fetch all parts of the model into one folder"


class PartError(ModelError):
    """A part of a model without the others, or beside others than its own."""


@dataclass(frozen=True)
class PartName:
    """What the name of a part says: which it is, counted from 1, of how many."""

    stem: str
    number: int
    count: int

    def of(self, number: int) -> str:
        """The name of another part of the same model."""
        return f"{self.stem}-{number:05}-of-{self.count:05}.gguf"


def part_name(name: str) -> PartName | None:
    """What the name of a file says; None of one that is not called as a part of a model is."""
    match = NAME.fullmatch(name)
    return PartName(match["stem"], int(match["number"]), int(match["count"])) if match else None


def names_of_model(name: str) -> list[str]:
    """The names of the files of a model whose first part is called so; any other name alone."""
    part = part_name(name)
    return [part.of(number) for number in range(1, part.count + 1)] if part and part.number == 1 and part.count else [name]


def files_of_model(path: Path) -> list[Path]:
    """The files that are there of the model whose first part this is, the first before the others; any other file alone."""
    rest = (path.with_name(name) for name in names_of_model(path.name)[1:])
    return [path, *(part for part in rest if part.is_file())]


def other_parts(path: Path, number: Any, count: Any) -> list[Path]:
    """The other files of a model of which this is the first of `count`, as its header says it; none of a model in one file.

    Raises PartError where it is not the first, is called otherwise, or another is not there.
    """
    if not isinstance(count, int) or count <= 1:
        return []
    number = number if isinstance(number, int) else 0
    name = part_name(path.name)
    if name is None or (name.number, name.count) != (number + 1, count):
        text = f"is part {number + 1} of {count} of a model, which are found by their names, and is not called so"
        raise PartError(
            text, where=str(path), remedy=f"call it NAME-{number + 1:05}-of-{count:05}.gguf, and the others likewise"
        )
    if number:
        text = f"is part {number + 1} of {count} of a model, which begins with its first"
        raise PartError(text, where=str(path), remedy=f"name {path.with_name(name.of(1))}")
    rest = [path.with_name(name.of(later)) for later in range(2, count + 1)]
    if missing := next((part for part in rest if not part.is_file()), None):
        text = f"is part 1 of {count} of a model, and {missing.name} is not beside it"
        raise PartError(text, where=str(path), remedy=BESIDE)
    return rest
