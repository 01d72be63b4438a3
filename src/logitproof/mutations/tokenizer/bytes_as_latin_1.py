"""UTF-8 is encoded twice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from logitproof.mutations.tokenizer._text import WrongText


@dataclass
class BytesAsLatin1(WrongText):
    """UTF-8 is encoded twice."""

    bug: ClassVar[str] = "bytes of the text are taken for characters of Latin-1"
    shows: ClassVar[str] = "texts outside ASCII give other and more ids"
    seen_in: ClassVar[tuple[str, ...]] = ()
    remedy: ClassVar[str] = "decode the text once"

    def read(self, text: str) -> str:
        """Each byte a character."""
        return text.encode().decode("latin-1")
