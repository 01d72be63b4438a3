"""A blank is put before every text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from logitproof.mutations.tokenizer._text import WrongText


@dataclass
class BlankBeforeText(WrongText):
    """A blank is put before every text."""

    bug: ClassVar[str] = "the rule of SentencePiece models is applied to one without it"
    shows: ClassVar[str] = "the first word gives another id"
    seen_in: ClassVar[tuple[str, ...]] = ()
    remedy: ClassVar[str] = "read add_prefix_space from the tokenizer"

    def read(self, text: str) -> str:
        """With a blank in front."""
        return f" {text}"
