"""Runs of blanks become one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

from logitproof.mutations.tokenizer._text import WrongText


@dataclass
class BlanksCollapsed(WrongText):
    """Runs of blanks become one."""

    bug: ClassVar[str] = "white space is normalized"
    shows: ClassVar[str] = "code, tables and line breaks give other ids"
    seen_in: ClassVar[tuple[str, ...]] = ()
    remedy: ClassVar[str] = "tokenize the text as it is"

    def read(self, text: str) -> str:
        """Every run of white space one blank."""
        return re.sub(r"\s+", " ", text)
