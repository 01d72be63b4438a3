"""The files of an answer that people open: report.html, and report.md with the pictures that it shows."""

from __future__ import annotations

from pathlib import Path

from logitproof.documents import chart, grid, html, markdown
from logitproof.documents.section import Chart, Grid, Page
from logitproof.files.atomic import write_atomically


def write_pages(page: Page, folder: Path, name: str = "report") -> Path:
    """NAME.html, NAME.md and NAME-N.svg in `folder`; returns the first."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {}
    for count, section in enumerate(page.sections):
        if isinstance(section, Grid | Chart):
            files[count] = f"{name}-{count + 1}.svg"
            write_atomically(folder / files[count], svg(section))
    write_atomically(folder / f"{name}.md", markdown.text(page, files=files))
    path = folder / f"{name}.html"
    write_atomically(path, html.whole(page))
    return path


def svg(picture: Grid | Chart) -> str:
    """A picture as a file of its own."""
    return str(grid.svg(picture) if isinstance(picture, Grid) else chart.svg(picture))
