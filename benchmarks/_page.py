"""Figures of a benchmark as a table in a page of docs/, between `<!-- NAME -->` and `<!-- /NAME -->`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from logitproof.files.atomic import write_atomically

DOCS = Path(__file__).parents[1] / "docs"


def table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """A markdown table."""
    names = list(head)
    lines = [f"| {' | '.join(names)} |", f"|{'---|' * len(names)}", *(f"| {' | '.join(map(str, row))} |" for row in rows)]
    return "\n".join([*lines, ""])


def replaced(text: str, name: str, content: str) -> str:
    """The page with `content` between the marks `name`; raises ValueError where it has none."""
    begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->\n"
    if begin not in text or end not in text:
        raise ValueError(f"the page has no marks <!-- {name} -->")
    return re.sub(re.escape(begin) + ".*?" + re.escape(end), lambda _: begin + content + end, text, count=1, flags=re.DOTALL)


def write(page: str, name: str, content: str) -> None:
    """Put `content` into docs/`page`."""
    path = DOCS / page
    write_atomically(path, replaced(path.read_text("utf-8"), name, content))
