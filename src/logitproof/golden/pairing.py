"""Whether two files are two: the same one twice proves nothing, and what only one of them holds is counted."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from logitproof.errors import ContractError
from logitproof.files.hashes import file_sha256

WORDS = {
    "rows_of_candidate": "{} rows of the reference are not in the candidate",
    "rows_of_reference": "{} rows of the candidate are not in the reference",
    "prompts_of_reference": "{} prompts of the candidate are not in the reference",
}


def lacking(summary: Mapping[str, Any]) -> str:
    """What one side of a comparison lacks, in words; nothing where both hold the same."""
    counts = summary.get("missing", {})
    return ", ".join(text.format(counts[name]) for name, text in WORDS.items() if counts.get(name))


def refuse_the_same(reference: Path, candidate: Path) -> None:
    """Raise ContractError where both sides are one file or folder, or two files of the same bytes."""
    if not (reference.exists() and candidate.exists()):
        return
    same = reference.samefile(candidate)
    if not same and reference.is_file() and candidate.is_file():
        same = reference.stat().st_size == candidate.stat().st_size and file_sha256(reference) == file_sha256(candidate)
    if same:
        raise ContractError(
            f"{reference} and {candidate} are the same, so the comparison would prove nothing",
            where="reference and candidate",
            remedy="name the output of another engine",
        )
