"""Our own side of an engine: the source that stands between a worker's process and its rows."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from logitproof import catalog
from logitproof.files.sources import PACKAGE, import_closure, sources_sha256
from logitproof.jobs.spec import Spec

SERVE = PACKAGE / "serve.py"
RECOGNIZED = PACKAGE / "readers" / "__init__.py"
"""An engine that opens a dump tries every reader on it, so that any of them can change its rows."""


def adapter_identity(spec: Spec) -> dict[str, Any]:
    """What a trace's key holds of our own code: an adapter that changed must not reuse what the old one measured.

    The import closure of the engine's module, of the worker's end and of every catalogue entry that an option names, and
    of every reader where the engine reads dumps. Of an engine from another package its whole source and its version.
    """
    entry = catalog.find("engines", spec.engine)
    files = {SERVE, entry.file, *_named(spec.options)}
    if RECOGNIZED in import_closure(*files):
        files |= {reader.file for reader in catalog.entries("readers").values()}
    identity: dict[str, Any] = {"source": sources_sha256(import_closure(*sorted(files)))}
    if entry.file.is_relative_to(PACKAGE):
        return identity
    return identity | {"plugin": _plugin(entry.module)}


def strings_in(value: Any) -> Iterable[str]:
    """Every string in a value made of mappings and lists."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from strings_in(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from strings_in(inner)


def _named(options: Mapping[str, Any]) -> set[Path]:
    """The files of catalogue entries that are named in the options: a planted bug, a reader."""
    texts = set(strings_in(options))
    if not texts:
        return set()  # reading what bugs there are takes longer than a run that finds everything in the store
    known = catalog.entries("mutations") | catalog.entries("readers")
    return {known[text].file for text in texts if text in known}


def _plugin(module: str) -> dict[str, str]:
    """The version of the distribution that a module comes from, and the sha256 of all source of its top package."""
    top = module.partition(".")[0]
    spec = importlib.util.find_spec(top)
    folders = [Path(folder) for folder in (spec.submodule_search_locations or [])] if spec else []
    files = sorted(path for folder in folders for path in folder.rglob("*.py"))
    if not folders and spec and spec.origin:
        files = [Path(spec.origin)]
    names = importlib.metadata.packages_distributions().get(top, [])
    versions = {name: importlib.metadata.version(name) for name in sorted(set(names))}
    return {**versions, "source": sources_sha256(files)}
