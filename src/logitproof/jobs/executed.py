"""What an engine executed: programs, libraries and source, by which a trace is used again or not. `sight.py` looks at it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from logitproof.files.atomic import content_key
from logitproof.files.hashes import file_sha256, file_state
from logitproof.traces.store import TraceStore

OBSERVER = Path(__file__).parent / "observer"
KIND = "executed"
SMALL = 4 << 20
"""Bytes up to which a file is hashed, so that one that was touched counts as the same; of a larger one its state counts."""


@dataclass(frozen=True)
class Executed:
    """Files by path, each as state and sha256 (`` where it was not hashed); or why they cannot be known."""

    files: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    unknown: str = ""

    def keep(self, store: TraceStore) -> str:
        """The name under which the store remembers the files; nothing where they are unknown."""
        if self.unknown:
            return ""
        content = {path: list(entry) for path, entry in self.files.items()}
        name = content_key(content)
        if not store.note(KIND, name):
            store.remember(KIND, name, content)
        return name


def stale(name: str, unseen: str, store: TraceStore) -> str:
    """Why a trace may not be used again: what was executed is unknown, or has changed since; nothing where it may.

    `name` and `unseen` are the trace's `executed` and `unseen`.
    """
    if not name:
        return unseen or "it was measured by a version that did not look at what an engine executes"
    files = store.note(KIND, name)
    if content_key(files) != name:
        return "what its engine executed is not in the store any more"
    for path, entry in files.items():
        if not _is_same(Path(path), *entry):
            return f"{path} has changed since"
    return ""


def as_it_is(path: Path) -> tuple[str, str]:
    """A file's state now and its sha256, `` where it is not hashed; raises OSError and EnvironmentFailed."""
    is_hashed = path.stat().st_size <= SMALL and "site-packages" not in path.parts
    return _state(path), file_sha256(path) if is_hashed else ""


def _is_same(path: Path, state: str, sha256: str) -> bool:
    try:
        return _state(path) == state or bool(sha256 and sha256 == file_sha256(path))
    except OSError:
        return False


def _state(path: Path) -> str:
    return ":".join(map(str, file_state(path)))
