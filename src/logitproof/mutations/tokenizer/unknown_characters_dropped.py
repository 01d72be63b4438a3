"""Characters outside the vocabulary are dropped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from logitproof.mutations.tokenizer._text import WrongText


@dataclass
class UnknownCharactersDropped(WrongText):
    """Characters outside the vocabulary are dropped."""

    bug: ClassVar[str] = "there is no fallback to bytes"
    shows: ClassVar[str] = "texts outside ASCII lose characters"
    seen_in: ClassVar[tuple[str, ...]] = ()
    remedy: ClassVar[str] = "fall back to the tokens of the bytes"

    def read(self, text: str) -> str:
        """ASCII only."""
        return text.encode("ascii", "ignore").decode()
