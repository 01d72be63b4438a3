"""The programs that the options of engines name: what was started must be what the run began with.

An engine that writes over another's program, or a build that ends in the middle of a run, makes traces of nobody knows what.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from logitproof.errors import ContractError
from logitproof.files.hashes import file_sha256
from logitproof.jobs.job import Job, option_files
from logitproof.jobs.spec import Spec, spec_key
from logitproof.traces.store import TraceStore

SOURCES = (".py", ".pyc", ".sh", ".js", ".mjs", ".ts", ".pl", ".rb", ".lua", ".jl", ".r", ".jar", ".so", ".dll", ".dylib")
"""Suffixes of programs that need no right to be executed; a file without either may be a log that the engine itself writes."""


@dataclass(frozen=True)
class Programs:
    """sha256 of every program that an option names, by engine and path."""

    files: Mapping[tuple[str, Path], str]
    keys: Mapping[str, str]
    """of every engine by its name, as `spec_key` has it"""

    @classmethod
    def of(cls, named: Mapping[str, Spec]) -> Programs:
        """Those of all engines, as they are now."""
        files = {(name, path): sha256 for name, spec in named.items() for path, sha256 in _programs(spec)}
        return cls(files, {name: spec_key(spec) for name, spec in named.items()})

    def refuse_changed(self, store: TraceStore, measured: Iterable[Job]) -> None:
        """Raise ContractError where one is another file now; what its engine `measured` meanwhile is forgotten first."""
        changed = [place for place, sha256 in self.files.items() if _sha256(place[1]) != sha256]
        if not changed:
            return
        engines = {self.keys[name] for name, _ in changed}
        for job in measured:
            if spec_key(job.spec) in engines:
                store.forget(job.key)
        name, path = changed[0]
        text = f"was replaced or written to while the run measured, so nobody knows what {name} executed"
        raise ContractError(text, where=str(path), remedy="let nothing write to an engine during a run, and run it again")


def _programs(spec: Spec) -> Iterable[tuple[Path, str]]:
    for name, sha256 in option_files(spec).items():
        path = Path(spec.directory or ".") / name
        if path.is_file() and (path.suffix.lower() in SOURCES or os.access(path, os.X_OK)):
            yield path, sha256


def _sha256(path: Path) -> str:
    return file_sha256(path) if path.is_file() else ""
