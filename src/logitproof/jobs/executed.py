"""What an engine's processes execute: programs, libraries and source, by which a trace is used again or not.

On Linux the kernel says what is mapped and open in /proc, and every Python process notes what it reads (`observer`). What
neither can say, such as what a shell has read, makes the whole unknown, and then a trace is measured again.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from logitproof.files.atomic import content_key
from logitproof.files.hashes import file_sha256, file_state
from logitproof.files.sources import PACKAGE
from logitproof.traces.store import TraceStore

OBSERVER = Path(__file__).parent / "observer"
KIND = "executed"
SMALL = 4 << 20
"""Bytes up to which a file is hashed, so that one that was touched counts as the same; of a larger one its state counts."""
KERNEL = ("/proc/", "/sys/", "/dev/", "/memfd:", "/SYSV")
INTERPRETERS = (
    "sh", "bash", "dash", "zsh", "ksh", "fish", "busybox", "perl", "ruby", "node", "deno", "bun", "lua", "luajit", "java",
    "php", "Rscript", "R", "julia", "guile", "dotnet", "mono", "beam.smp", "erl", "tclsh", "awk", "gawk", "mawk",
)  # fmt: skip
"""Programs that execute files which neither the kernel nor the observer knows of."""


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


def executed(leader: int, notes: Path, ignored: Iterable[Path] = ()) -> Executed:
    """What the processes of an engine execute now, and its Python processes have read; but for what lies in `ignored`."""
    if not Path("/proc/self/maps").exists():
        return Executed(unknown="this system does not say what a process executes")
    read, written, started, observed = _noted(notes)
    paths, programs = set(read) - written, set()
    for process in _family(leader):
        try:
            program = os.readlink(f"/proc/{process}/exe")
            programs |= {program, *_words(process)}
            if process not in observed and (reason := _opaque(process, program)):
                return Executed(unknown=reason)
            paths |= {program, *_mapped(process), *_open(process)}
        except OSError:
            continue  # it ended meanwhile
    if not programs:
        return Executed(unknown="its process had ended when it was looked at")
    for name in started:
        if not {name, shutil.which(name), os.path.realpath(shutil.which(name) or name)} & programs:
            return Executed(unknown=f"it runs {Path(name).name}, which had ended when it was looked at")
    return _with_states(paths, (*ignored, PACKAGE, notes))


def _with_states(paths: Iterable[str], ignored: Iterable[Path]) -> Executed:
    skipped = tuple(str(path.resolve()) for path in ignored)
    files: dict[str, tuple[str, str]] = {}
    for name in sorted({os.path.realpath(path) for path in _with_sources(paths)}):
        if name.startswith(KERNEL) or any(name == place or name.startswith(f"{place}/") for place in skipped):
            continue
        if name.endswith(" (deleted)"):
            return Executed(unknown=f"it executes {name}, which is not there any more")
        path = Path(name)
        if path.is_file():
            files[name] = (_state(path), file_sha256(path) if _is_hashed(path) else "")
    return Executed(files)


def _is_hashed(path: Path) -> bool:
    return path.stat().st_size <= SMALL and "site-packages" not in path.parts


def _with_sources(paths: Iterable[str]) -> set[str]:
    """The paths, and for compiled Python its source, whose change it does not show."""
    with_sources = set(paths)
    for path in paths:
        if path.endswith(".pyc") and "__pycache__" in path:
            with_sources.add(importlib.util.source_from_cache(path))
    return with_sources


def _is_same(path: Path, state: str, sha256: str) -> bool:
    try:
        return _state(path) == state or bool(sha256 and sha256 == file_sha256(path))
    except OSError:
        return False


def _state(path: Path) -> str:
    return ":".join(map(str, file_state(path)))


def _opaque(process: int, program: str) -> str:
    """Why it cannot be known what a process executes, which is no Python that takes notes."""
    name = Path(program).name
    if name in INTERPRETERS or name.startswith(("python", "pypy", "ruby", "perl", "lua", "java")):
        return f"it is run by {name}, which does not say what it reads"
    if int(_stat(process)[8]):  # cminflt: page faults of children that it has waited for
        return f"{name} has run other programs, which had ended when it was looked at"
    return ""


def _noted(notes: Path) -> tuple[set[str], set[str], set[str], set[int]]:
    """Files read, files written before they were read, programs started, and the numbers of the Python processes."""
    read: dict[str, None] = {}
    written: set[str] = set()
    started: set[str] = set()
    observed: set[int] = set()
    lines = notes.read_text("utf-8", "surrogateescape").splitlines() if notes.is_file() else []
    for line in lines:
        kind, process, text = [*line.split("\t", 2), "", ""][:3]
        if kind == "python":
            observed.add(int(process))
        elif kind == "became":  # another program under the same number, which may or may not take notes
            observed.discard(int(process))
            read[shutil.which(text) or text] = None
        elif kind == "written" and text not in read:
            written.add(text)
        elif kind == "read":
            read[text] = None
        elif kind == "started":
            started.add(text)
    return set(read), written, started, observed


def _family(leader: int) -> list[int]:
    """The leader of a session, all that belong to it, and what these have started."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = _stat(int(entry.name))
            except OSError:
                continue
            parents[int(entry.name)] = (int(fields[1]), int(fields[3]))
    family = {process for process, (_, session) in parents.items() if session == leader or process == leader}
    while more := {process for process, (parent, _) in parents.items() if parent in family} - family:
        family |= more
    return sorted(family)


def _stat(process: int) -> list[str]:
    """The fields of /proc/PID/stat behind the name: state, parent, group, session, ..."""
    return Path(f"/proc/{process}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()


def _words(process: int) -> list[str]:
    """Its command line: a script stands there, where the program is its interpreter."""
    return Path(f"/proc/{process}/cmdline").read_bytes().decode("utf-8", "surrogateescape").split("\0")


def _mapped(process: int) -> set[str]:
    lines = Path(f"/proc/{process}/maps").read_text("utf-8", "surrogateescape").splitlines()
    return {line.split(None, 5)[5] for line in lines if line.count("/") and len(line.split(None, 5)) == 6}


def _open(process: int) -> set[str]:
    """Files that it holds open and may read."""
    files = set()
    for entry in Path(f"/proc/{process}/fd").iterdir():
        try:
            target = os.readlink(entry)
            flags = Path(f"/proc/{process}/fdinfo/{entry.name}").read_text().split("flags:")[1].split()[0]
        except OSError:
            continue
        if target.startswith("/") and int(flags, 8) & os.O_ACCMODE != os.O_WRONLY:
            files.add(target)
    return files
