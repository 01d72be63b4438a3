"""What a build of llama.cpp was made from: its commit and its CMake flags, by whoever says them.

A library built outside of a git checkout calls its commit "unknown". Then the package that carried the source is asked: the
changelog of llama-cpp-python names the commit of each of its versions. Flags stand in the CMakeCache.txt of the build's folder.
"""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlparse

from logitproof.errors import ContractError
from logitproof.files.untrusted import parse_json

PACKAGE = "llama-cpp-python"
SECTION = re.compile(r"^## \[([^\]]+)\]", re.M)
COMMIT = re.compile(r"ggml-org/llama\.cpp@([0-9a-f]{7,40})")
ENTRY = re.compile(r"^((?:GGML|LLAMA)_\w+|CMAKE_BUILD_TYPE|BUILD_SHARED_LIBS):\w+=(.*)$", re.M)
HOME = re.compile(r"^CMAKE_HOME_DIRECTORY:\w+=(.*)$", re.M)
OFF = ("OFF", "NOTFOUND")
LIMIT = 1 << 22
"""Bytes of the largest cache or changelog that is read."""


def build_facts(file: Path, stated: str) -> dict[str, str]:
    """`llama.cpp commit` and `build flags` of the library or program at `file`; `stated` is what it states of its commit.

    What nobody says is left out.
    """
    cache = _cache_of(file.resolve())
    facts = {}
    if commit := _commit(stated, cache):
        facts["llama.cpp commit"] = commit
    if cache and (flags := _flags(cache)):
        facts["build flags"] = flags
    return facts


def _commit(stated: str, cache: str) -> str:
    if match := re.search(r"\b[0-9a-f]{7,40}\b", stated):
        return match[0]
    home = HOME.search(cache)
    folders = [Path(home[1]).resolve()] if home else []
    for folder, version in [*((folder, "") for folder in folders), *_installed()]:
        for parent in (folder, *folder.parents):
            if commit := commit_in_changelog(_text(parent / "CHANGELOG.md"), version):
                return f"{commit}, as {PACKAGE} says"
    return ""


def commit_in_changelog(text: str, version: str = "") -> str:
    """The commit that a version of the package names, without a version the newest; nothing where none is named."""
    parts = SECTION.split(text)
    for name, section in zip(parts[1::2], parts[2::2], strict=True):
        if version in ("", name) and (commit := COMMIT.search(section)):
            return commit[1]
    return ""


def _installed() -> Iterator[tuple[Path, str]]:
    """The folder that the installed bindings were built from, where their record names one here, and their version."""
    try:
        package = importlib.metadata.distribution(PACKAGE)
        record = parse_json((package.read_text("direct_url.json") or "{}").encode(), Path("direct_url.json"))
        url = urlparse(str(record.get("url", "")) if isinstance(record, dict) else "")
    except (importlib.metadata.PackageNotFoundError, ContractError, ValueError):
        return
    if url.scheme == "file":
        yield Path(unquote(url.path)), package.version


def _cache_of(file: Path) -> str:
    """The CMakeCache.txt of the nearest folder above a built file; nothing of one that was moved elsewhere."""
    return next((text for folder in list(file.parents)[:3] if (text := _text(folder / "CMakeCache.txt"))), "")


def _flags(cache: str) -> str:
    entries = {name: value.strip() for name, value in ENTRY.findall(cache)}
    return " ".join(f"{name}={value}" for name, value in sorted(entries.items()) if not value.endswith(OFF) and value)


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace") if path.is_file() and path.stat().st_size <= LIMIT else ""
    except OSError:
        return ""
