"""Looks at the processes of an engine: what do they execute, and what have they read?

On Linux the kernel says what is mapped and open in /proc, and every Python process notes what it reads (`observer`). What
neither can say, such as what a shell has read, makes the whole unknown, and then a trace is measured again.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from logitproof.files.sources import PACKAGE
from logitproof.jobs.executed import Executed, as_it_is

KERNEL = ("/proc/", "/sys/", "/dev/", "/memfd:", "/SYSV")
INTERPRETERS = (
    "sh", "bash", "dash", "zsh", "ksh", "fish", "busybox", "perl", "ruby", "node", "deno", "bun", "lua", "luajit", "java",
    "php", "Rscript", "R", "julia", "guile", "dotnet", "mono", "beam.smp", "erl", "tclsh", "awk", "gawk", "mawk",
)  # fmt: skip
"""Programs that execute files which neither the kernel nor the observer knows of."""


class Sight:
    """What the processes of one engine execute, looked at again and again while it runs.

    A file counts as it was when it was first seen: what an engine has loaded stays in it when the file changes, and traces
    made after that must not be taken for those of the new file. It goes by the name that it was opened by, so that a link
    that leads elsewhere later is a change.
    """

    def __init__(self, leader: int, notes: Path) -> None:
        self.leader = leader
        self._notes = _Notes(notes)
        self._places: dict[str, str] = {}
        self._files: dict[str, tuple[str, str]] = {}
        self._last = Executed()

    def executed(self, ignored: Iterable[Path] = ()) -> Executed:
        """What they execute now and have read, but for what lies in `ignored`; the same object while nothing came to it."""
        if not Path("/proc/self/maps").exists():
            return Executed(unknown="this system does not say what a process executes")
        self._notes.refresh()
        paths, programs = self._notes.read.keys() - self._notes.written, set[str]()
        for process in _family(self.leader):
            try:
                program = os.readlink(f"/proc/{process}/exe")
                programs |= {program, *_words(process)}
                if process not in self._notes.observed and (reason := _opaque(process, program)):
                    return Executed(unknown=reason)
                paths |= {program, *_mapped(process), *_open(process)}
            except OSError:
                continue  # it ended meanwhile
        if not programs:
            return Executed(unknown="its process had ended when it was looked at")
        for name, place in self._notes.started.items():
            if not {name, place, os.path.realpath(place)} & programs:
                return Executed(unknown=f"it runs {Path(name).name}, which had ended when it was looked at")
        seen = self._with_states(paths | set(self._notes.started.values()), (*ignored, PACKAGE, self._notes.path))
        if seen != self._last:
            self._last = seen
        return self._last

    def _with_states(self, paths: Iterable[str], ignored: Iterable[Path]) -> Executed:
        skipped = tuple(str(path.resolve()) for path in ignored)
        files: dict[str, tuple[str, str]] = {}
        for name in sorted(_with_sources(paths)):
            place = self._place(name)
            if place.startswith(KERNEL) or any(place == folder or place.startswith(f"{folder}/") for folder in skipped):
                continue
            if place.endswith(" (deleted)"):
                return Executed(unknown=f"it executes {place}, which is not there any more")
            if name not in self._files and os.path.isfile(name):
                self._files[name] = as_it_is(Path(name))
            if name in self._files:
                files[name] = self._files[name]
        return Executed(files)

    def _place(self, name: str) -> str:
        """Where a name led to when it was first seen."""
        if name not in self._places:
            self._places[name] = os.path.realpath(name)
        return self._places[name]


class _Notes:
    """What the Python processes of an engine have noted so far."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.read: dict[str, None] = {}
        self.written: set[str] = set()
        """files written before they were read"""
        self.started: dict[str, str] = {}
        """programs, each with its place"""
        self.observed: set[int] = set()
        """the numbers of the processes"""
        self._end = 0
        """bytes up to which the file has been read: whole lines"""

    def refresh(self) -> None:
        """Read what came since."""
        if not self.path.is_file():
            return
        with self.path.open("rb") as file:
            file.seek(self._end)
            lines = file.read().rpartition(b"\n")
        self._end += len(lines[0]) + len(lines[1])
        for line in lines[0].decode("utf-8", "surrogateescape").split("\n") if lines[0] else ():
            kind, process, text = [*line.split("\t", 2), "", ""][:3]
            self._note(kind, process, text)

    def _note(self, kind: str, process: str, text: str) -> None:
        if kind == "python":
            self.observed.add(int(process))
        elif kind == "became":  # another program under the same number, which may or may not take notes
            self.observed.discard(int(process))
            self.read[_program(process, text)] = None
        elif kind == "written" and text not in self.read:
            self.written.add(text)
        elif kind == "read":
            self.read[text] = None
        elif kind == "started":
            self.started[text] = _program(process, text)


def _program(process: str, name: str) -> str:
    """Where the program lies that a process started by a name: on PATH, or from the folder that the process is in."""
    if os.sep not in name:
        return shutil.which(name) or name
    try:
        return os.path.normpath(os.path.join(os.readlink(f"/proc/{process}/cwd"), name))
    except OSError:
        return name


def _with_sources(paths: Iterable[str]) -> set[str]:
    """The paths, and for compiled Python its source, whose change it does not show."""
    with_sources = set(paths)
    for path in paths:
        if path.endswith(".pyc") and "__pycache__" in path:
            with_sources.add(importlib.util.source_from_cache(path))
    return with_sources


def _opaque(process: int, program: str) -> str:
    """Why it cannot be known what a process executes, which is no Python that takes notes."""
    name = Path(program).name
    if name in INTERPRETERS or name.startswith(("python", "pypy", "ruby", "perl", "lua", "java")):
        return f"it is run by {name}, which does not say what it reads"
    if int(_stat(process)[8]):  # cminflt: page faults of children that it has waited for
        return f"{name} has run other programs, which had ended when it was looked at"
    return ""


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
