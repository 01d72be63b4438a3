"""Contractions are not kept together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from logitproof.mutations.tokenizer._text import WrongRules, patterns


@dataclass
class ContractionsSplit(WrongRules):
    """Contractions are not kept together."""

    bug: ClassVar[str] = "the rule for 's, 't, 'll is missing"
    shows: ClassVar[str] = "contractions give other ids where the vocabulary has them"
    seen_in: ClassVar[tuple[str, ...]] = ()
    remedy: ClassVar[str] = "copy every alternative of the expression"

    def changed(self, rules: dict[str, Any]) -> dict[str, Any]:
        """Without the first alternative."""
        for one in patterns(rules):
            first, _, rest = one["pattern"]["Regex"].partition("|[^")
            one["pattern"]["Regex"] = f"[^{rest}" if first.startswith(("(?i:", "'")) else one["pattern"]["Regex"]
        return rules
