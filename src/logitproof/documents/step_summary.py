"""A document on the page of a GitHub Actions step."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from logitproof.documents import markdown
from logitproof.documents.section import Page
from logitproof.files.atomic import environment_errors

LARGEST = 900_000
"""Bytes of one answer; GitHub takes no page above a megabyte, and then shows nothing of it."""


def append(page: Page, environment: Mapping[str, str]) -> None:
    """Add a document to GITHUB_STEP_SUMMARY; nothing where GITHUB_ACTIONS is not `true`."""
    target = environment.get("GITHUB_STEP_SUMMARY")
    if environment.get("GITHUB_ACTIONS") != "true" or not target:
        return
    with environment_errors(Path(target)), open(target, "a", encoding="utf-8") as file:
        file.write(shortened(markdown.text(page, level=2)) + "\n")


def shortened(text: str) -> str:
    """A page that is small enough, cut at the end of a line."""
    if len(text.encode()) <= LARGEST:
        return text
    kept = text.encode()[:LARGEST].decode("utf-8", "ignore").rpartition("\n")[0]
    return f"{kept}\n\n… cut here: the whole answer is what the command prints.\n"
