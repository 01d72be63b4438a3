"""The answer to a question for machines: one envelope for all of them, and what the question has to say beside it."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from logitproof.documents.wording import json_text
from logitproof.files.atomic import write_atomically

FORMAT = 1


@dataclass(frozen=True)
class Envelope:
    """What stands at the top of every answer.

    `kind` is the question, `about` what it was asked of, in one line; `version` is logitproof's, `exit_code` the command's.
    """

    format: int
    kind: str
    version: str
    made_at: str
    about: str
    exit_code: int


@dataclass(frozen=True)
class Answer:
    """An answer to be written or printed; keys of `data` stand beside those of the envelope.

    Where `data` was made earlier than the answer, its own `made_at` counts.
    """

    kind: str
    about: str
    exit_code: int
    data: Mapping[str, Any]
    made_at: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))

    def as_json(self) -> dict[str, Any]:
        """Plain data; raises ValueError where a key of the question would hide one of the envelope."""
        made_at = self.data.get("made_at", self.made_at)
        top = vars(Envelope(FORMAT, self.kind, version(), made_at, self.about, self.exit_code))
        if hidden := sorted(key for key in top.keys() & self.data.keys() if self.data[key] != top[key]):
            raise ValueError(f"{self.kind}: {', '.join(hidden)} stands in the envelope already")
        return {**top, **self.data}

    def text(self) -> str:
        """The file of an answer, without the end of its last line."""
        return json_text(self.as_json(), indent=1)

    def write(self, path: Path) -> Path:
        """Write the file, whole or not at all."""
        write_atomically(path, self.text() + "\n")
        return path


def version() -> str:
    """Which logitproof this is."""
    try:
        return importlib.metadata.version("logitproof")
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
