"""report.html: the page that people open, one file without anything to fetch."""

from __future__ import annotations

from pathlib import Path

from logitproof.documents import html
from logitproof.documents.document import Document
from logitproof.documents.stored import kept_answers
from logitproof.files.atomic import write_atomically
from logitproof.report.report import Report
from logitproof.report.unfinished import Unfinished
from logitproof.reporters import Reporter
from logitproof.reporters._page import document


class Html(Reporter):
    """report.html: verdict, matrix, gates, heat map, tokens, charts, causes, settings and pins, to move about in."""

    def render(self, report: Report, folder: Path) -> Path:
        path = folder / "report.html"
        write_atomically(path, html.whole(document_of(report, folder)))
        return path

    def unfinished(self, run: Unfinished, folder: Path) -> None:
        """Why there is no verdict."""
        write_atomically(folder / "report.html", html.whole(run.document()))

    def page(self, report: Report) -> Document:
        """The same of a report that may lie in no folder, for a notebook."""
        return document(report, Path("RUN"))


def document_of(report: Report, folder: Path) -> Document:
    """The page of a run folder, with what was answered about this run."""
    return document(report, folder, kept_answers(folder, report.facts.get("run_id", "")))
