"""Writes the vocabulary of taps into docs/taps.md: `python docs/taps_table.py`."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from logitproof.localization.tap_files import LLAMA_CPP
from logitproof.protocol.taps import BEGIN, END, LAYER

PAGE = Path(__file__).with_name("taps.md")
MARKS = ("<!-- taps -->\n", "<!-- /taps -->\n")


def page(text: str) -> str:
    """The page with the table between its marks."""
    dumped = {tap: name for name, tap in LLAMA_CPP.items()}
    names = [*BEGIN.items(), *((f"layers.N.{leaf}", about) for leaf, about in LAYER.items()), *END.items()]
    rows = []
    for name, about in names:
        layout, _, meaning = about.partition("] ")
        theirs = dumped.get(name.removeprefix("layers.N."), "").replace("{layer}", "N")
        rows.append(f"| `{name}` | `{layout}]` | {meaning} | {f'`{theirs}`' if theirs else ''} |")
    table = "\n".join(["| tap | layout | what it is | `llama.cpp` name in a dump |", "|---|---|---|---|", *rows, ""])
    pattern = re.escape(MARKS[0]) + ".*?" + re.escape(MARKS[1])
    return re.sub(pattern, lambda _: MARKS[0] + table + MARKS[1], text, count=1, flags=re.DOTALL)


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text("utf-8")), "utf-8")
    sys.exit(0)
