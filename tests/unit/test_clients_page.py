"""What the page for authors of engines says is what the code does."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from logitproof.engines._program import PLACES

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/clients.md"


def test_the_page_has_every_rule_of_the_conformance_test(module_of: Callable[[Path], Any]) -> None:
    text = PAGE.read_text("utf-8")
    table = module_of(ROOT / "docs/rules_table.py")
    assert table.page(text) == text, "run `python docs/rules_table.py`"
    assert text.count("\n| ") > len(table.RULES)


def test_the_page_names_every_client_and_every_file_that_it_names_is_there() -> None:
    text = PAGE.read_text("utf-8")
    folders = {path.name for path in (ROOT / "clients").iterdir() if path.is_dir()}
    assert {name for name in folders if f"| `clients/{name}` |" in text} == folders
    rows = [line for line in text.splitlines() if line.startswith("| `clients/")]
    for row in rows:
        folder = ROOT / row.split("`")[1]
        for name in re.findall(r"`(\w+\.\w+)`", row):
            assert (folder / name).is_file(), name


def test_the_page_names_every_place_of_a_command_line() -> None:
    text = PAGE.read_text("utf-8")
    assert [name for name in PLACES if f"`{{{name}}}`" not in text] == []
