"""Writes what every engine says of itself into docs/engines.md: `python docs/engines_table.py`.

Every engine of the catalogue that needs no option is asked `hello`; one that is not installed keeps the row that it has.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from logitproof import catalog
from logitproof.errors import LogitproofError
from logitproof.jobs import environments
from logitproof.jobs.worker import Spec
from logitproof.jobs.workers import Workers
from logitproof.protocol.messages import HelloResult

PAGE = Path(__file__).with_name("engines.md")
MARKS = ("<!-- capabilities -->\n", "<!-- /capabilities -->\n")
HEAD = ("engine", "environment", "prefill", "decode", "own greedy loop", "own sampler", "tokenizer", "taps", "LoRA adapters")
OUTSIDE = "depends on what it drives"


def rows(known: dict[str, str]) -> dict[str, str]:
    """A line of the table for each engine; `known` are those of the page, for engines that are not installed here."""
    asked = {name: Spec(name, timeout=300.0) for name in catalog.entries("engines") if _askable(name)}
    with Workers() as workers:
        said = workers.hello(asked)
    found = {}
    for name in catalog.entries("engines"):
        answer = said.get(name)
        if isinstance(answer, HelloResult):
            found[name] = _line(name, _cells(answer))
        elif isinstance(answer, LogitproofError):
            found[name] = known.get(name) or _line(name, ["not asked: it is not installed here"])
        else:
            found[name] = _line(name, [OUTSIDE])
    return found


def page(text: str) -> str:
    """The page with the table between its marks."""
    inside = text.partition(MARKS[0])[2].partition(MARKS[1])[0]
    known = {line.split("`")[1]: line for line in inside.splitlines() if line.startswith("| `")}
    table = "\n".join([f"| {' | '.join(HEAD)} |", "|---" * len(HEAD) + "|", *rows(known).values(), ""])
    pattern = re.escape(MARKS[0]) + ".*?" + re.escape(MARKS[1])
    return re.sub(pattern, lambda _: MARKS[0] + table + MARKS[1], text, count=1, flags=re.DOTALL)


def _askable(name: str) -> bool:
    return all(option.default is not None for option in catalog.find("engines", name).options)


def _cells(said: HelloResult) -> list[str]:
    offers = ["prefill" in said.modes, "decode" in said.modes, said.generate, said.sample, said.tokenize]
    return [*("yes" if offered else "–" for offered in offers), f"{len(said.taps)} kinds" if said.taps else "–"]


def _line(name: str, cells: list[str]) -> str:
    entry = catalog.find("engines", name)
    environment = "its own" if environments.requirements(name) else "logitproof's"
    cells = cells if len(cells) > 1 else [*cells, *[""] * 5]
    return f"| {' | '.join([f'`{name}`', environment, *cells, 'yes' if 'adapter' in entry.option_names else '–'])} |"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text("utf-8")), "utf-8")
    sys.exit(0)
