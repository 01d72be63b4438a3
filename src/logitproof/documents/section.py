"""What a document is made of. Texts are as they were found: escaping is the renderer's, in its own way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Tone = Literal["plain", "good", "bad", "unsure", "quiet"]
"""How a word is meant: right, wrong, not known; `quiet` is beside the point."""
Kind = Literal["text", "code", "number"]
"""Words, something that is copied as it is, or digits that stand under one another."""
Shade = Literal["none", "right", "carried", "tie", "wrong", "unknown"]
"""How a square is filled: nothing to say, right, not quite, a tie, wrong, not measured."""


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
    gathers: bool = False
    """whether a page lets its reader gather rows, and fold them, under what stands in it"""


@dataclass(frozen=True)
class Row:
    """One row: a cell a column, how its first cell is meant, and what is to be said below it."""

    cells: tuple[str, ...]
    tone: Tone = "plain"
    notes: tuple[Line, ...] = ()
    target: str = ""
    """the place on the same page that its first cell leads to, on a page that has an `Explorer`"""


@dataclass(frozen=True)
class Table:
    """Rows under columns. A cell may be empty; a row has as many cells as there are columns, or ValueError is raised."""

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    title: str = ""
    detail: bool = False
    filters: bool = False
    """whether a page lets its reader choose rows by what stands in a column"""

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row.cells) != len(self.columns):
                raise ValueError(f"{len(row.cells)} cells under {len(self.columns)} columns: {row.cells}")


@dataclass(frozen=True)
class Field:
    """One square of a grid: a sign of one or two characters, what it means in words, and how dark it is."""

    text: str
    title: str
    shade: Shade = "none"


@dataclass(frozen=True)
class GridLine:
    """One line of squares; where there is none, the square is left out."""

    name: str
    fields: tuple[Field | None, ...]


@dataclass(frozen=True)
class Grid:
    """Squares below `columns`, of which as many are shown as have a name; `alt` says the same facts in words."""

    columns: tuple[str, ...]
    rows: tuple[GridLine, ...]
    legend: tuple[tuple[Shade, str], ...]
    alt: str
    title: str = ""
    detail: bool = False


@dataclass(frozen=True)
class Series:
    """Points of one line or one set of bars, by x."""

    name: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Chart:
    """Lines, bars, or points anywhere, those of one series joined; on a logarithmic axis a value of nothing is left out.

    `alt` says the same in words.
    """

    kind: Literal["lines", "bars", "points"]
    series: tuple[Series, ...]
    across: str
    upwards: str
    alt: str
    title: str = ""
    logarithmic: bool = False
    detail: bool = False


@dataclass(frozen=True)
class Explorer:
    """Every position of every prompt, to be moved about in where scripts run; elsewhere there is `alt`.

    `data` is what `assets/page.js` reads: `reporters/_explorer.py` makes it.
    """

    data: Mapping[str, Any] = field(repr=False)
    alt: str = ""
    title: str = ""
    detail: bool = False


Picture = Grid | Chart
Section = Text | Table | Grid | Chart | Explorer


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
