"""Regular expressions that stand in a file from outside: matched within a deadline.

Twenty characters can keep Python's own `re` busy for longer than anybody waits, and it cannot be interrupted.
"""

from __future__ import annotations

import regex

SECONDS = 1.0
LONGEST = 1000
"""Characters of an expression."""


def fits(pattern: object, text: str) -> bool:
    """Whether the whole of a text fits; ValueError where it is no expression, or takes longer than `SECONDS` to tell."""
    if not isinstance(pattern, str):
        raise ValueError(f"{str(pattern)[:80]!r} is no text")
    if len(pattern) > LONGEST:
        raise ValueError(f"an expression of {len(pattern)} characters; {LONGEST} are read at most")
    try:
        return regex.fullmatch(pattern, text, timeout=SECONDS) is not None
    except TimeoutError:
        raise ValueError(f"{pattern[:80]!r} is not matched with {text[:80]!r} within {SECONDS:g} s") from None
    except (regex.error, RecursionError, MemoryError, OverflowError) as error:
        raise ValueError(f"{pattern[:80]!r} is no regular expression: {error}") from None
