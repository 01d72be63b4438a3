"""What shows itself in a notebook, as the page that its question makes of it: no layout of its own."""

from __future__ import annotations

import importlib
from typing import ClassVar

from logitproof.documents.section import Page


class Shown:
    """A noun that shows itself in a notebook: the function `page` of the module LAYOUT says as which page.

    The module is imported when something is shown. It knows the noun by name, so the noun cannot import it.
    """

    LAYOUT: ClassVar[str]

    def as_page(self) -> Page:
        """What is shown, as renderers take it."""
        page: Page = importlib.import_module(self.LAYOUT).page(self)
        return page

    # The renderers are imported where they are used: every engine's process imports this, and none draws.

    def _repr_html_(self) -> str:
        from logitproof.documents import html

        return html.fragment(self.as_page())

    def _repr_markdown_(self) -> str:
        from logitproof.documents import markdown

        return markdown.text(self.as_page())
