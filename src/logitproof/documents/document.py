"""The answer to a question, which shows itself in a notebook."""

from __future__ import annotations

from dataclasses import dataclass

from logitproof.documents.section import Page


@dataclass(frozen=True)
class Document(Page):
    """An answer: its title, the verdict with the decisive reason, sections, and the command to go on with."""

    # The renderers are imported where they are used: every engine's process imports this, and none draws.

    def _repr_html_(self) -> str:
        from logitproof.documents import html

        return html.fragment(self)

    def _repr_markdown_(self) -> str:
        from logitproof.documents import markdown

        return markdown.text(self)
