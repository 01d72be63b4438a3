"""Scopes: which positions of a prompt a gate looks at.

all                    every position
prompt                 positions that predict a token of the prompt
continuation           positions that predict a token after the prompt
first N tokens         the first N positions of the continuation (of everything, where there is none)
last N tokens          the last N positions
position N             one position; negative numbers count from the end
"""

from __future__ import annotations

import re
from dataclasses import dataclass

PATTERN = r"^\s*(?:all|prompt|continuation|(?:first|last)\s+0*[1-9][0-9]*\s+(?:tokens?|positions?)|position\s+-?[0-9]+)\s*$"
"""What a scope looks like, for the published schema."""
_WORDS = ("all", "prompt", "continuation")
_COUNTED = re.compile(r"(first|last) ([0-9]+) (?:tokens?|positions?)")
_SINGLE = re.compile(r"position (-?[0-9]+)")


@dataclass(frozen=True)
class Scope:
    """A parsed scope. `positions(T, prompt_length)` gives the indices it selects, perhaps none."""

    kind: str
    number: int = 0

    def positions(self, count: int, prompt_length: int) -> range:
        """Indices into [0, count); row t predicts token t+1, so the continuation begins at prompt_length-1."""
        begin = max(prompt_length - 1, 0)
        if self.kind == "all":
            return range(count)
        if self.kind == "prompt":
            return range(min(begin, count))
        if self.kind == "continuation":
            return range(begin, count)
        if self.kind == "first":
            start = begin if begin < count else 0
            return range(start, min(start + self.number, count))
        if self.kind == "last":
            return range(max(count - self.number, 0), count)
        index = self.number if self.number >= 0 else count + self.number
        return range(index, index + 1) if 0 <= index < count else range(0)


def parse_scope(text: str) -> Scope:
    """Parse a scope; raises ValueError that lists the forms."""
    words = " ".join(text.split())
    if words in _WORDS:
        return Scope(words)
    if match := _COUNTED.fullmatch(words):
        if int(match[2]) == 0:
            raise ValueError(f"the scope {text!r} selects nothing")
        return Scope(match[1], int(match[2]))
    if match := _SINGLE.fullmatch(words):
        return Scope("position", int(match[1]))
    raise ValueError(f"{text!r} is no scope; write all, prompt, continuation, first N tokens, last N tokens or position N")
