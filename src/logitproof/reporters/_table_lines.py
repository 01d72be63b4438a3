"""A table of Markdown whose fields are Markdown already."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

BARE_BAR = re.compile(r"(?<!\\)\|")
"""A bar ends a table's cell, even inside code."""


def table_lines(head: list[str], rows: Iterable[list[str]]) -> Iterator[str]:
    """Its lines, an empty one last."""
    yield "| " + " | ".join(head) + " |"
    yield "|" + "---|" * len(head)
    for row in rows:
        yield "| " + " | ".join(BARE_BAR.sub(r"\|", text) for text in row) + " |"
    yield ""
