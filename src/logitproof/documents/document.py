"""The answer to a question, which shows itself in a notebook."""

from __future__ import annotations

from dataclasses import dataclass

from logitproof.documents.section import Page
from logitproof.documents.shown import Shown


@dataclass(frozen=True)
class Document(Page, Shown):
    """An answer: its title, the verdict with the decisive reason, sections, and the command to go on with."""

    def as_page(self) -> Page:
        """Itself."""
        return self
