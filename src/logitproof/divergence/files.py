"""A divergence in a folder: kl.json, kl.html, and the picture alone where there is one."""

from __future__ import annotations

from pathlib import Path

from logitproof.documents import html
from logitproof.documents.answer import Answer
from logitproof.documents.pages import svg
from logitproof.documents.section import Chart, Page
from logitproof.files.atomic import write_atomically


def write(folder: Path, answer: Answer, page: Page) -> list[Path]:
    """Write all of them; the paths that were written."""
    written = [answer.write(folder / "kl.json"), folder / "kl.html"]
    write_atomically(folder / "kl.html", html.whole(page))
    for section in page.sections:
        if isinstance(section, Chart):
            write_atomically(folder / "kl.svg", svg(section))
            written.append(folder / "kl.svg")
    return written
