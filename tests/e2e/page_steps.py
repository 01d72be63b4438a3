"""What a page of the documentation asks its reader to do: files to make, commands to run, cells to run, and what comes out."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

FILE = re.compile(r"^\*\*(?P<name>[^*\n]+)\*\*\n\n```\w+\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
CONSOLE = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CELL = re.compile(
    r"(?<!\*\*\n\n)^```python\n(?P<code>.*?)^```$(?:\n\n^```text\n(?P<shown>.*?)^```$)?", re.MULTILINE | re.DOTALL
)
EXIT = re.compile(r"\s+# exit code (\d+)$")


@dataclass(frozen=True)
class Step:
    """A command of a page, its exit code and the lines that the page shows of what it prints."""

    command: tuple[str, ...]
    exit_code: int
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Cell:
    """Python that a page shows, and the lines that it shows of what comes out."""

    code: str
    lines: tuple[str, ...]


def steps(page: Path) -> list[Step]:
    """All commands of the page, in its order."""
    found: list[Step] = []
    for block in CONSOLE.findall(page.read_text("utf-8")):
        for command in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            first, *lines = command.rstrip().splitlines()
            code = EXIT.search(first)
            found.append(Step(tuple(shlex.split(EXIT.sub("", first))), int(code[1]) if code else 0, tuple(lines)))
    return found


def cells(page: Path) -> list[Cell]:
    """All Python of the page that stands in no file, in its order."""
    matches = CELL.finditer(page.read_text("utf-8"))
    return [Cell(match["code"], tuple((match["shown"] or "").splitlines())) for match in matches]


def files(page: Path) -> dict[str, str]:
    """The files that the page shows whole, by name."""
    return {match["name"].replace("\\", ""): match["text"] for match in FILE.finditer(page.read_text("utf-8"))}


def make(page: Path, folder: Path) -> None:
    """Write every file of the page below `folder`."""
    for name, text in files(page).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")


def on_one_line(text: str) -> str:
    """The words of a text, however its lines are broken."""
    return " ".join(text.split())
