"""Models of the Hugging Face hub by their ids: `org/name`, `org/name@revision`, `org/name@revision:file.gguf`.

They are read from the hub's cache (HF_HUB_CACHE, or `hub` in HF_HOME) and never asked for, unless `--download` says so. A
revision is resolved to its commit, and what was read is named by that. Where the file is no whole name it is a part of one, as
llama.cpp's `-hf org/name:Q4_K_M` has it. A file or folder of this very name on the disk is what is meant.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from pathlib import Path

from logitproof.errors import EnvironmentFailed, ModelError
from logitproof.files.gguf_parts import names_of_model
from logitproof.weights.hub_id import COMMIT, MAIN, HubId, choose, hub_id, without_folder

SNAPSHOTS = "snapshots"
MISSING_PACKAGE = "pip install 'logitproof[hub]'"


@dataclass(frozen=True)
class Asking:
    """What a command does about ids: whether it fetches, and whom it tells what they came to."""

    download: bool
    tell: Callable[[str], None]
    lines: set[str] = field(default_factory=set)
    """what was told already"""
    fetched: dict[tuple[str, str], str] = field(default_factory=dict)
    """commits by repository and revision: a branch that moves between two files of it is asked for once"""


_ASKING: ContextVar[Asking | None] = ContextVar("asking", default=None)
_RESOLVED: dict[tuple[str, str, str], Path] = {}
"""Snapshots, named by their commits, by repository, revision and cache.

A branch that moves meanwhile does not change what a run reads."""


class asking:
    """While it lasts, ids are fetched if `download`, and `tell` is given a line for each that was resolved.

    It is no generator: one that nobody closes would be closed by the collector, in the middle of another command.
    """

    def __init__(self, download: bool, tell: Callable[[str], None]) -> None:
        if download:
            _package("--download")  # before others turn the network off for good, as the reference does for itself
        self._now, self._before = Asking(download, tell), _ASKING.get()

    def __enter__(self) -> None:
        _RESOLVED.clear()
        _ASKING.set(self._now)

    def __exit__(self, *_: object) -> None:
        _ASKING.set(self._before)


def may_download() -> bool:
    """Whether ids may be fetched now."""
    now = _ASKING.get()
    return now is not None and now.download


def located(text: str, folder: Path = Path(), *, where: str = "") -> Path:
    """Where the model of this name lies: the path itself, or the hub's cache, fetched if that is asked for.

    Raises ModelError, with the remedy, of an id that is not in the cache or cannot be fetched. A path that is no id is given
    back as it is.
    """
    path, wanted = folder / text, hub_id(text)
    if wanted is None or path.exists():
        return find(text, folder)
    snapshot = _fetched(wanted, where) or _in_cache(wanted)
    if snapshot is None:
        raise _absent(wanted, path, where)
    _tell_commit(wanted, snapshot.name)
    return _inside(snapshot, wanted, where)


def find(text: str, folder: Path = Path()) -> Path:
    """Where the model of this name lies as far as that is known here; the path itself where the cache does not have it."""
    path, wanted = folder / text, hub_id(text)
    if wanted is None:
        return path
    if path.exists():
        if _ASKING.get() is not None and (may_download() or _has_repository(wanted.repo)):
            _tell(f"{text} is read from the disk, where a file or folder has this name; the hub's model is not looked at")
        return path
    snapshot = _in_cache(wanted)
    if snapshot is None:
        return path
    _tell_commit(wanted, snapshot.name)
    try:
        return _inside(snapshot, wanted, "")
    except ModelError:
        return path


def origin(path: Path) -> HubId | None:
    """The model and the commit that a path in the hub's cache is of; None of any other path."""
    parts = path.absolute().parts
    for index in range(1, len(parts) - 1):
        kind, *names = parts[index - 1].split("--")
        if parts[index] == SNAPSHOTS and kind == "models" and len(names) == 2 and COMMIT.fullmatch(parts[index + 1]):
            return HubId("/".join(names), parts[index + 1], "/".join(parts[index + 2 :]))
    return None


def commit_of(path: Path) -> str:
    """The commit that a path in the hub's cache is of; nothing of any other path."""
    place = origin(path)
    return place.revision if place else ""


def named(path: Path) -> str:
    """What weights are called: a file or folder by its own name, a model of the hub by the repository's."""
    place = origin(path)
    return place.repo.partition("/")[2] if place and not place.file else path.name


def absolute(path: Path) -> Path:
    """The path without links on its way; the name of a file stays its own, since the hub's cache links `x.gguf` to a hash."""
    return path.resolve() if path.is_dir() or path.name == ".." else path.parent.resolve() / path.name


def cache() -> Path:
    """The folder of the hub's cache, as huggingface_hub has it."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def _inside(snapshot: Path, wanted: HubId, where: str) -> Path:
    """The file that is meant of what the cache has of a commit, or the folder of it; ModelError where something is lost."""
    files = {str(file.relative_to(snapshot)): file for file in sorted(snapshot.rglob("*")) if not file.is_dir()}
    lost = [name for name, file in files.items() if not file.exists()]
    if wanted.file:
        name = choose(list(files), wanted, where)
        lost = [part for part in names_of_model(name) if part in lost or part not in files]
    if lost:
        text = f"the Hugging Face cache has lost {lost[0]} of {wanted.repo} at commit {snapshot.name}"
        raise ModelError(text, where=where, remedy=f"fetch it again with --download, or remove {snapshot}")
    if wanted.file:
        return files[name]
    if refused := without_folder(list(files), wanted, where):
        raise refused
    return snapshot


def _fetched(wanted: HubId, where: str) -> Path | None:
    """The snapshot as the hub has it, where that may be asked; the cache's where it cannot be, which is told."""
    now = _ASKING.get()
    if now is None or not now.download:
        return None
    from logitproof.weights.hub_fetch import fetch

    name = wanted.repo, wanted.revision or MAIN
    try:
        snapshot = fetch(replace(wanted, revision=now.fetched.get(name, wanted.revision)), where)
    except EnvironmentFailed as error:
        in_cache = _in_cache(wanted)
        if in_cache is None or not _is_whole(in_cache, wanted):
            raise
        _tell(f"{error.text}: {wanted} is taken from the cache as it is there")
        return in_cache
    now.fetched[name] = snapshot.name
    _RESOLVED[(*name, str(cache()))] = snapshot
    return snapshot


def _is_whole(snapshot: Path, wanted: HubId) -> bool:
    try:
        path = _inside(snapshot, wanted, "")
    except ModelError:
        return False
    return path.is_file() or (path / "config.json").is_file()


def _in_cache(wanted: HubId) -> Path | None:
    """The snapshot that the cache has of this revision."""
    try:
        key = wanted.repo, wanted.revision or MAIN, str(cache())
        snapshot = _RESOLVED.get(key)
        if snapshot is None or not snapshot.is_dir():
            snapshot = _looked_up(*key)
    except (ImportError, OSError, ValueError):
        return None
    # a reference that is empty or damaged leads to some other folder
    if not COMMIT.fullmatch(snapshot.name) or not snapshot.is_dir():
        return None
    _RESOLVED[key] = snapshot
    return snapshot


def _looked_up(repo: str, revision: str, place: str) -> Path:
    from huggingface_hub import snapshot_download

    # one small file is asked for, so that a snapshot of which only a part was ever fetched is found as well
    pattern = ["config.json"]
    return Path(snapshot_download(repo, revision=revision, cache_dir=place, local_files_only=True, allow_patterns=pattern))


def _has_repository(repo: str) -> bool:
    try:
        return (cache() / f"models--{repo.replace('/', '--')}").is_dir()
    except ImportError:
        return False


def _absent(wanted: HubId, path: Path, where: str) -> ModelError:
    try:
        place = str(cache())
    except ImportError:
        text = f"no such file or folder: {path}, and models of the hub need the package huggingface_hub"
        return ModelError(text, where=where, remedy=f"correct the path, or {MISSING_PACKAGE}")
    what = f"{wanted.repo} at revision {wanted.revision}" if wanted.revision else wanted.repo
    text = f"no such file or folder: {path}, and the Hugging Face cache {place} has no {what}"
    remedy = "correct the path, name a folder, or fetch the model with --download, which every command that runs an engine has"
    return ModelError(text, where=where, remedy=remedy)


def _package(where: str) -> None:
    try:
        importlib.import_module("huggingface_hub")
    except ImportError:
        text = "models of the hub need the package huggingface_hub"
        raise ModelError(text, where=where, remedy=MISSING_PACKAGE) from None


def _tell_commit(wanted: HubId, commit: str) -> None:
    if not wanted.is_pinned:
        how = "" if wanted.revision else " (no revision is named)"
        _tell(f"{wanted.repo}: {wanted.revision or MAIN} is commit {commit}{how}")


def _tell(line: str) -> None:
    now = _ASKING.get()
    if now is not None and line not in now.lines:
        now.lines.add(line)
        now.tell(line)
