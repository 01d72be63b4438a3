"""The last blank of a run is not left to the word after it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from logitproof.mutations.tokenizer._text import WrongRules, pattern_replaced


@dataclass
class LookaheadMissing(WrongRules):
    """The last blank of a run is not left to the word after it."""

    bug: ClassVar[str] = "the regular expression engine has no lookahead, so that the rule with it was dropped"
    shows: ClassVar[str] = "runs of blanks before a word give other ids"
    seen_in: ClassVar[tuple[str, ...]] = ()
    remedy: ClassVar[str] = "use an engine with lookahead, or write the rule by hand"

    def changed(self, rules: dict[str, Any]) -> dict[str, Any]:
        r"""Without `\s+(?!\S)`."""
        return pattern_replaced(rules, r"\s+(?!\S)|", "")
