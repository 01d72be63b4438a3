"""A model of the hub is named by its commit: a branch is another model tomorrow, and on another machine today."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar

from logitproof.contract.opened import OpenContract
from logitproof.lint import Finding, Rule
from logitproof.weights.hub import commit_of, find
from logitproof.weights.hub_id import MAIN, at_commit, hub_id


class Hub(Rule):
    """Ids of the Hugging Face hub under `models`."""

    codes: ClassVar[Mapping[str, str]] = {"LP064": "a model of the hub that is named by a branch or a tag, or by no revision"}

    def look(self, opened: OpenContract) -> Iterator[Finding]:
        """Look the ids up in the cache; with pins they are held to a commit already."""
        if opened.contract.pins is not None:
            return
        for name, files in opened.contract.models.items():
            for label, text in files.items():
                wanted = hub_id(text)
                if wanted is None or wanted.is_pinned or not (commit := commit_of(find(text, opened.folder))):
                    continue
                what = f"is {wanted.revision}" if wanted.revision else f"names no revision, which is {MAIN}"
                text_of = f"{text} {what}: commit {commit} here, and another one where that has moved"
                remedy = f"write {at_commit(text, commit)}, or `logitproof pin`"
                yield self.finding(opened, "LP064", "models", name, label, text=text_of, remedy=remedy)
