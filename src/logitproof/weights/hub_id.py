"""An id of the Hugging Face hub as a word: what it says of repository, revision and file."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from logitproof.errors import ModelError
from logitproof.files.gguf_parts import part_name

ID = re.compile(
    r"(?P<repo>[A-Za-z0-9_][\w.-]*/[A-Za-z0-9_][\w.-]*)(?:@(?P<revision>[^@:?\s]+))?(?::(?P<file>[^:?]+))?",
    re.ASCII,
)
COMMIT = re.compile(r"[0-9a-f]{40}")
MAIN = "main"
FILES = (".gguf", ".safetensors", ".bin", ".yaml", ".yml", ".json")
"""Endings of files: a path to one is no id of a model."""


@dataclass(frozen=True)
class HubId:
    """A model of the hub; `file` is a GGUF file of it, or a part of the name of one."""

    repo: str
    revision: str = ""
    file: str = ""

    @property
    def is_pinned(self) -> bool:
        """Whether the revision is a commit, which stays what it is."""
        return bool(COMMIT.fullmatch(self.revision))

    def __str__(self) -> str:
        revision, file = (f"{sign}{word}" if word else "" for sign, word in (("@", self.revision), (":", self.file)))
        return f"{self.repo}{revision}{file}"


def hub_id(text: str) -> HubId | None:
    """The id that `text` is by its form; None of any other path."""
    match = ID.fullmatch(text)
    if match is None:
        return None
    repo, revision, file = match["repo"], match["revision"] or "", match["file"] or ""
    leaves = any(part in ("", ".", "..") for word in (revision, file) if word for part in word.split("/"))
    is_path = not (revision or file) and repo.endswith(FILES)
    is_none = ".." in repo or "--" in repo or repo.endswith((".", "-"))
    return None if leaves or is_path or is_none else HubId(repo, revision, file)


def at_commit(text: str, commit: str) -> str:
    """The id with its commit for its revision; `text` where there is none of either."""
    wanted = hub_id(text)
    return str(replace(wanted, revision=commit)) if wanted and commit else text


def choose(names: list[str], wanted: HubId, where: str) -> str:
    """The GGUF file of a repository that is meant: by its name, or by the only one that has this part in its name.

    Of a model in several files it is the first.
    """
    gguf = sorted(name for name in names if name.endswith(".gguf") and not _is_later_part(name))
    if wanted.file in names:
        return wanted.file
    part = re.compile(rf"(?<![A-Za-z0-9]){re.escape(wanted.file)}(?![A-Za-z0-9])", re.IGNORECASE)
    fitting = [name for name in gguf if part.search(name.removesuffix(".gguf"))]
    if len(fitting) == 1:
        return fitting[0]
    what = f"{len(fitting)} files fit {wanted.file!r}" if fitting else f"no file is called {wanted.file!r}"
    known = ", ".join((fitting or gguf)[:6]) or "no GGUF file"
    raise ModelError(f"{wanted}: {what}; there is {known}", where=where, remedy=f"write {replace(wanted, file='')}:FILE.gguf")


def _is_later_part(name: str) -> bool:
    part = part_name(name)
    return part is not None and part.number > 1
