"""A document as Markdown, for files, notebooks and the page of a step in CI."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from logitproof.documents.section import (
    Chart,
    Column,
    Explorer,
    Grid,
    Line,
    Page,
    Row,
    Section,
    Table,
    Text,
    Tone,
)
from logitproof.documents.wording import code, encodable, next_line, paragraph, visible, words

MARKS: dict[Tone, str] = {"plain": "", "good": "✔ ", "bad": "✘ ", "unsure": "? ", "quiet": ""}


def text(page: Page, level: int = 1, files: Mapping[int, str] | None = None) -> str:
    """The whole document; its title is a heading of `level`, those of its sections one below it.

    `files` are the pictures that lie beside it, by the number of their section.
    """
    return encodable("\n".join(_lines(page, level, files or {}))) + "\n"


def _lines(page: Page, level: int, files: Mapping[int, str]) -> Iterator[str]:
    yield f"{'#' * level} {words(page.title)}"
    yield ""
    reason = f": {words(page.verdict.reason)}" if page.verdict.reason else ""
    yield f"{MARKS[page.verdict.tone]}**{words(page.verdict.status)}**{reason}"
    if page.next_command:
        yield ""
        yield next_line(page.next_command)
    for count, section in enumerate(page.sections):
        yield ""
        yield from _section(section, level + 1, files.get(count, ""))


def _section(section: Section, level: int, file: str) -> Iterator[str]:
    if section.title:
        yield f"{'#' * level} {words(section.title)}"
        yield ""
    if isinstance(section, Text):
        yield from _verbatim(section) if section.verbatim else _text(section)
    elif isinstance(section, Table):
        yield from _table(section)
    else:
        yield from picture(section, file)


def _text(section: Text) -> Iterator[str]:
    """Paragraphs and nested lists; without an empty line between, two paragraphs would be one."""
    before: Line | None = None
    for line in section.lines:
        if before is not None and (line.level == 0 or before.level == 0):
            yield ""
        item = f"{'  ' * (line.level - 1)}- " if line.level else ""
        yield f"{item}{MARKS[line.tone]}{paragraph(line.text)}"
        before = line


def _verbatim(section: Text) -> Iterator[str]:
    """An indented block, which no line in it can end."""
    yield from (f"    {visible(line.text)}" for line in section.lines)


def picture(shown: Grid | Chart | Explorer, file: str = "") -> Iterator[str]:
    """A picture where it lies in a file, and in any case what it shows."""
    if file:
        yield f"![{words(shown.title)}]({file})"
        yield ""
    yield paragraph(shown.alt)


def _table(table: Table) -> Iterator[str]:
    yield "| " + " | ".join(words(column.title) for column in table.columns) + " |"
    yield "|" + "|".join("---:" if column.kind == "number" else "---" for column in table.columns) + "|"
    for row in table.rows:
        yield "| " + " | ".join(_row(table.columns, row)) + " |"


def _row(columns: tuple[Column, ...], row: Row) -> Iterator[str]:
    """The cells; what is said below a row goes into its last one, since a table of Markdown has no other place."""
    for count, (column, cell) in enumerate(zip(columns, row.cells, strict=True)):
        shown = code(cell).replace("|", r"\|") if column.kind == "code" and cell else words(cell)
        notes = "".join(f"<br>{MARKS[note.tone]}{words(note.text)}" for note in row.notes) if count == len(columns) - 1 else ""
        yield f"{MARKS[row.tone] if count == 0 else ''}{shown}{notes}"
