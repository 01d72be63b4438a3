"""Writes the table of modules and what they import into docs/architecture.md: `python docs/import_map.py`."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src/logitproof"
PAGE = ROOT / "docs/architecture.md"
MARKS = ("<!-- import-map -->\n", "<!-- /import-map -->\n")
CATALOGUES = ("commands", "engines", "lint", "metrics", "mutations", "preflight", "readers", "reporters")


def imports() -> dict[str, set[str]]:
    """For every module or catalogue of the package, the others that it imports, at its top or in a function."""
    found: dict[str, set[str]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        own = _unit(path.relative_to(PACKAGE).with_suffix("").as_posix().replace("/", "."))
        found.setdefault(own, set()).update(unit for unit in _imported(path) if unit != own)
    return {name: found[name] for name in sorted(found) if not name.startswith("__")}


def table() -> str:
    """The map as a Markdown table."""
    rows = [f"| `{name}` | {', '.join(sorted(used)) or '–'} |" for name, used in imports().items()]
    return "\n".join(["| module | imports |", "|---|---|", *rows, ""])


def page(text: str) -> str:
    """The page with the table between its marks."""
    pattern = re.escape(MARKS[0]) + ".*?" + re.escape(MARKS[1])
    return re.sub(pattern, lambda _: MARKS[0] + table() + MARKS[1], text, count=1, flags=re.DOTALL)


def _imported(path: Path) -> set[str]:
    units = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("logitproof"):
            inner = node.module.removeprefix("logitproof").lstrip(".")
            names = [inner] if inner else [name.name for name in node.names]
            units |= {_unit(name) for name in names if _exists(name)}
    return units


def _exists(name: str) -> bool:
    path = PACKAGE / name.replace(".", "/")
    return path.is_dir() or path.with_suffix(".py").exists()


def _unit(module: str) -> str:
    first = module.partition(".")[0]
    return first if first in CATALOGUES or (PACKAGE / first).is_dir() else module


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text("utf-8")), "utf-8")
    sys.exit(0)
