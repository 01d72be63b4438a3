"""The last merge is made first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from logitproof.mutations.tokenizer._text import WrongRules


@dataclass
class MergesReversed(WrongRules):
    """The last merge is made first."""

    bug: ClassVar[str] = "merges are applied in the wrong order"
    shows: ClassVar[str] = "words with more than one way to be merged give other ids; text decodes rightly"
    seen_in: ClassVar[tuple[str, ...]] = ()
    remedy: ClassVar[str] = "the merge that stands first in the file is made first"

    def changed(self, rules: dict[str, Any]) -> dict[str, Any]:
        """The merges in reverse."""
        return rules | {"model": rules["model"] | {"merges": rules["model"]["merges"][::-1], "ignore_merges": False}}
