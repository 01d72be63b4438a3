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
BESIDE = re.compile(r"(?:^|[/._-])(?:mmproj|imatrix)(?:[._-]|$)", re.IGNORECASE)
"""Files that publishers put beside a model: what reads its pictures, and what its quantization weighed."""
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

    A part that ends where a word of the name does comes first, as in llama.cpp: Q4_0 is not Q4_0_4_4. Of a model in several
    files it is the first, whether that is there or not; files that are no model are named by their whole names.
    """
    if wanted.file in names:
        return wanted.file
    gguf = sorted({_first_part(name) for name in names if name.endswith(".gguf") and not BESIDE.search(name)})
    part = re.escape(wanted.file)
    tag = rf"(?<![A-Za-z0-9_]){part}(?![A-Za-z0-9_])", rf"(?<![A-Za-z0-9]){part}(?![A-Za-z0-9])"
    for pattern in tag:
        fitting = [name for name in gguf if re.search(pattern, name.removesuffix(".gguf"), re.IGNORECASE)]
        if len(fitting) == 1:
            return fitting[0]
        if fitting:
            break
    what = f"{len(fitting)} files fit {wanted.file!r}" if fitting else f"no file is called {wanted.file!r}"
    known = ", ".join((fitting or gguf)[:6]) or "no GGUF file"
    raise ModelError(f"{wanted}: {what}; there is {known}", where=where, remedy=f"write {replace(wanted, file='')}:FILE.gguf")


def _first_part(name: str) -> str:
    """The first file of the model that this one is of."""
    part = part_name(name)
    return part.of(1) if part else name


def without_folder(names: list[str], wanted: HubId, where: str) -> ModelError | None:
    """Why a repository of these files is no model folder, where it holds GGUF files in its place; None of one that is."""
    gguf = sorted({_first_part(name) for name in names if name.endswith(".gguf")})
    if not gguf or ("config.json" in names and any(name.endswith(".safetensors") for name in names)):
        return None
    lacking = "safetensors file" if "config.json" in names else "config.json"
    text = f"{wanted} has no {lacking}: it holds {', '.join(gguf[:6])}"
    return ModelError(text, where=where, remedy=f"name the file, as in {wanted}:{gguf[0]}")
