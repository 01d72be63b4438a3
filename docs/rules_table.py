"""Writes the rules of `logitproof protocol test` into docs/clients.md: `python docs/rules_table.py`."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from logitproof.conformance.conformance import RULES

PAGE = Path(__file__).with_name("clients.md")
MARKS = ("<!-- rules -->\n", "<!-- /rules -->\n")


def page(text: str) -> str:
    """The page with the table between its marks."""
    rows = [f"| {rule.name} | {rule.asks} | {rule.remedy} |" for rule in RULES]
    table = "\n".join(["| rule | what is asked | where it is broken |", "|---|---|---|", *rows, ""])
    pattern = re.escape(MARKS[0]) + ".*?" + re.escape(MARKS[1])
    return re.sub(pattern, lambda _: MARKS[0] + table + MARKS[1], text, count=1, flags=re.DOTALL)


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text("utf-8")), "utf-8")
    sys.exit(0)
