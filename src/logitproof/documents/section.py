"""What a document is made of. Texts are as they were found: escaping is the renderer's, in its own way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from markupsafe import Markup

Tone = Literal["plain", "good", "bad", "unsure", "quiet"]
"""How a word is meant: right, wrong, not known; `quiet` is beside the point."""
Kind = Literal["text", "code", "number"]
"""Words, something that is copied as it is, or digits that stand under one another."""


@dataclass(frozen=True)
class Verdict:
    """The answer in one word or two, and in one line what decided it."""

    status: str
    reason: str
    tone: Tone = "plain"


@dataclass(frozen=True)
class Line:
    """One line of a text; from level 1 on it is an item below the line before it."""

    text: str
    tone: Tone = "plain"
    level: int = 0


@dataclass(frozen=True)
class Text:
    """Lines under a title. Of a `verbatim` text every line stands as it is, with its spaces, to be copied.

    A `detail`, here and below, is shown where a page may be long; a terminal leaves it out.
    """

    lines: tuple[Line, ...]
    title: str = ""
    verbatim: bool = False
    detail: bool = False


@dataclass(frozen=True)
class Column:
    """A column of a table; where rows are shown one by one, before the next is known, it is `width` characters wide."""

    title: str
    kind: Kind = "text"
    width: int = 0


@dataclass(frozen=True)
class Row:
    """One row: a cell a column, how its first cell is meant, and what is to be said below it."""

    cells: tuple[str, ...]
    tone: Tone = "plain"
    notes: tuple[Line, ...] = ()


@dataclass(frozen=True)
class Table:
    """Rows under columns. A cell may be empty; a row has as many cells as there are columns, or ValueError is raised."""

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    title: str = ""
    detail: bool = False

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row.cells) != len(self.columns):
                raise ValueError(f"{len(row.cells)} cells under {len(self.columns)} columns: {row.cells}")


@dataclass(frozen=True)
class Picture:
    """An SVG, of type Markup since whoever drew it escaped what is in it, and the same facts in words."""

    svg: Markup
    alt: str
    title: str = ""
    detail: bool = False


Section = Text | Table | Picture


@dataclass(frozen=True)
class Page:
    """What renderers lay out: what was asked, the answer, what it rests on, and the command to go on with."""

    title: str
    verdict: Verdict
    sections: tuple[Section, ...] = ()
    next_command: str = ""


def lines(text: str, tone: Tone = "plain", level: int = 0) -> tuple[Line, ...]:
    """A text of several lines; empty ones are left out."""
    return tuple(Line(part, tone, level) for part in text.splitlines() if part.strip())
