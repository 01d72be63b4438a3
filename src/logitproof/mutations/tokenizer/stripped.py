"""Blanks at the ends are taken off."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from logitproof.mutations.tokenizer._text import WrongText


@dataclass
class Stripped(WrongText):
    """Blanks at the ends are taken off."""

    bug: ClassVar[str] = "the text is stripped before it is tokenized"
    shows: ClassVar[str] = "exact but for texts that begin or end with blanks"
    seen_in: ClassVar[tuple[str, ...]] = ()
    remedy: ClassVar[str] = "tokenize the text as it is"

    def read(self, text: str) -> str:
        """Without blanks at either end."""
        return text.strip()
