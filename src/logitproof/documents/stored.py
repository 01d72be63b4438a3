"""A document kept as JSON beside the run that it speaks of, and read back as nothing but data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import ConfigDict, TypeAdapter, ValidationError

from logitproof.documents.document import Document
from logitproof.files.atomic import write_atomically


@dataclass(frozen=True)
class Kept:
    """An answer about one run: the question it answers, the run's id, and the document."""

    kind: str
    run_id: str
    document: Document
    __pydantic_config__ = ConfigDict(extra="forbid")


_READER = TypeAdapter(Kept)


def keep(kept: Kept, folder: Path) -> None:
    """Write `answers/KIND.json` in a run folder, in place of what an earlier run was answered."""
    (folder / "answers").mkdir(parents=True, exist_ok=True)
    text = _READER.dump_json(kept, indent=1, ensure_ascii=True).decode()
    write_atomically(folder / "answers" / f"{kept.kind}.json", text + "\n")


def kept_answers(folder: Path, run_id: str) -> list[Kept]:
    """What was answered about this run; an answer about another one, or a damaged file, is passed over."""
    answers = []
    for path in sorted((folder / "answers").glob("*.json")):
        try:
            kept = _READER.validate_json(path.read_bytes())
        except (OSError, ValidationError):
            continue
        if kept.run_id == run_id:
            answers.append(kept)
    return answers
