"""Compatibility characters are replaced."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import ClassVar

from logitproof.mutations.tokenizer._text import WrongText


@dataclass
class CompatibilityForms(WrongText):
    """Compatibility characters are replaced."""

    bug: ClassVar[str] = "NFKC is applied"
    shows: ClassVar[str] = "superscripts, ligatures and full-width characters give other ids"
    seen_in: ClassVar[tuple[str, ...]] = ()
    remedy: ClassVar[str] = "read the normalizer from the tokenizer's file"

    def read(self, text: str) -> str:
        """In NFKC."""
        return unicodedata.normalize("NFKC", text)
