"""A document for a terminal: lines that are never broken here, since a break could put foreign words where a line begins."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text as Styled

from logitproof.documents.section import Chart, Column, Explorer, Grid, Line, Page, Row, Section, Table, Text, Tone
from logitproof.documents.wording import visible

STYLES: dict[Tone, str] = {"plain": "", "good": "green", "bad": "bold red", "unsure": "magenta", "quiet": "dim"}
GAP = "  "


def show(page: Page, terminal: Console | None = None) -> None:
    """Print a document."""
    show_lines(laid_out(page), terminal)


def show_row(columns: Sequence[Column], row: Row, terminal: Console | None = None) -> None:
    """Print one row of a table whose other rows are not known yet."""
    show_lines(_row(columns, row, [column.width for column in columns]), terminal)


def show_sections(page: Page, terminal: Console | None = None) -> None:
    """Print the sections alone, to be copied or given to another program."""
    show_lines((line for section in _shown(page) for line in _section(section)), terminal)


def show_verdict(page: Page, terminal: Console | None = None) -> None:
    """Print what is left to say once the sections were shown: the verdict and the next command."""
    show_lines([_verdict(page), *_next(page)], terminal)


def messages(page: Page) -> list[str]:
    """The verdict, the next command and the sections as plain lines, for messages beside what a terminal draws."""
    lines = [_verdict(page), *_next(page), *(line for section in _shown(page) for line in _section(section))]
    return [line.plain for line in lines]


def show_lines(lines: Iterable[Styled], terminal: Console | None = None) -> None:
    """Print lines without breaking them."""
    terminal = terminal or Console()
    for line in lines:
        terminal.print(line, soft_wrap=True, highlight=False)


def text(page: Page) -> str:
    """A document without colours."""
    return "\n".join(line.plain for line in laid_out(page))


def laid_out(page: Page) -> Iterator[Styled]:
    """The lines of a document: title, sections, and last, where a terminal stops, the verdict and what to do next."""
    yield Styled(visible(page.title), "bold")
    for section in _shown(page):
        yield Styled()
        yield from _section(section)
    yield Styled()
    yield _verdict(page)
    yield from _next(page)


def _shown(page: Page) -> Iterator[Section]:
    return (section for section in page.sections if not section.detail)


def _verdict(page: Page) -> Styled:
    status, reason = visible(page.verdict.status), visible(page.verdict.reason)
    return Styled.assemble((status, STYLES[page.verdict.tone]), f": {reason}" if reason else "")


def _next(page: Page) -> Iterator[Styled]:
    if page.next_command:
        yield Styled.assemble("next: ", (visible(page.next_command), "bold"))


def _section(section: Section) -> Iterator[Styled]:
    if section.title:
        yield Styled(visible(section.title), "bold")
    if isinstance(section, Text):
        for line in section.lines:
            yield _verbatim(line) if section.verbatim else _line(line)
    elif isinstance(section, Table):
        yield from _table(section)
    else:
        yield from _picture(section)


def _line(line: Line) -> Styled:
    return Styled(f"{GAP * line.level}{visible(line.text)}", STYLES[line.tone])


def _verbatim(line: Line) -> Styled:
    return Styled(visible(line.text))


def _picture(picture: Grid | Chart | Explorer) -> Iterator[Styled]:
    yield Styled(f"{GAP}{visible(picture.alt)}")


def _table(table: Table) -> Iterator[Styled]:
    rows = [Row(tuple(column.title for column in table.columns)), *table.rows]
    widths = [max((cell_len(visible(row.cells[n])) for row in rows), default=0) for n in range(len(table.columns))]
    if any(column.title for column in table.columns):
        head = _cells(table.columns, rows[0], widths)
        yield Styled(head.plain.rstrip(), "dim")
    for row in table.rows:
        yield from _row(table.columns, row, widths)


def _row(columns: Sequence[Column], row: Row, widths: Sequence[int]) -> Iterator[Styled]:
    line = _cells(columns, row, widths)
    line.rstrip()
    yield line
    for note in row.notes:
        yield Styled(f"{GAP * (3 + note.level)}{visible(note.text)}", STYLES[note.tone])


def _cells(columns: Sequence[Column], row: Row, widths: Sequence[int]) -> Styled:
    line = Styled()
    for count, (column, cell, width) in enumerate(zip(columns, row.cells, widths, strict=True)):
        shown = visible(cell)
        pad = " " * max(width - cell_len(shown), 0)
        line.append(GAP if count else "")
        line.append(pad + shown if column.kind == "number" else shown + pad, STYLES[row.tone] if count == 0 else "")
    return line
