"""Prints an answer, as a page or as JSON, and ends with its exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, NoReturn

import click

if TYPE_CHECKING:
    from logitproof.documents.answer import Answer
    from logitproof.documents.document import Document


def tell(documents: Document | Iterable[Document], answer: Answer, *, as_json: bool) -> NoReturn:
    """Print the documents, or the JSON of the answer, and exit as it says."""
    from logitproof.documents.console import show
    from logitproof.documents.document import Document

    pages = [documents] if isinstance(documents, Document) else list(documents)
    if not as_json:
        for count, page in enumerate(pages):
            if count:
                click.echo()
            show(page)
    finish(pages, answer, as_json=as_json)


def finish(documents: Iterable[Document], answer: Answer, *, as_json: bool) -> NoReturn:
    """What is left where the documents were shown already: the JSON if it was asked for, GitHub, the exit code."""
    from logitproof.documents.step_summary import append

    if as_json:
        click.echo(answer.text())
    for page in documents:
        append(page, os.environ)
    sys.exit(answer.exit_code)
