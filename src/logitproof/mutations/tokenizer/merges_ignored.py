"""No merge is made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from logitproof.mutations.tokenizer._text import WrongRules


@dataclass
class MergesIgnored(WrongRules):
    """No merge is made."""

    bug: ClassVar[str] = "bytes stay bytes"
    shows: ClassVar[str] = "three to four times as many ids; text decodes rightly"
    seen_in: ClassVar[tuple[str, ...]] = ()
    remedy: ClassVar[str] = "apply the merges in the order of their ranks"

    def changed(self, rules: dict[str, Any]) -> dict[str, Any]:
        """A model without merges and without whole words."""
        return rules | {"model": rules["model"] | {"merges": [], "ignore_merges": False}}
