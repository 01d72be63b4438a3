"""Comes first in every Python process of an engine: notes which files it reads and which programs it starts.

The harness reads the notes to know whether a trace may be used again (jobs/sight.py). It stands alone, for any Python from
3.8 on, imports nothing of this package, and changes nothing that the program sees: it leaves `sys.path` and makes room for
another `sitecustomize`.
"""

import contextlib
import importlib
import os
import sys
from typing import Any, Set, Tuple  # noqa: UP035

NOTES = "LOGITPROOF_NOTES"
"""The variable that names the file of the notes."""
STARTS = ("subprocess.Popen", "os.exec", "os.posix_spawn", "os.spawn", "os.system")


def _observe(notes: str) -> None:
    log = os.open(notes, os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
    noted: Set[str] = set()  # noqa: UP006

    def note(kind: str, text: str) -> None:
        clean = text.replace("\n", "\0")
        line = f"{kind}\t{os.getpid()}\t{clean}\n"
        if line not in noted:
            noted.add(line)
            os.write(log, line.encode("utf-8", "surrogateescape"))

    def hook(event: str, arguments: Tuple[Any, ...]) -> None:  # noqa: UP006
        if event == "open" and isinstance(arguments[0], (str, bytes)):
            mode, flags = arguments[1], arguments[2]
            reads = "r" in mode or "+" in mode if isinstance(mode, str) else not flags & os.O_WRONLY
            note("read" if reads else "written", os.path.abspath(os.fsdecode(arguments[0])))
        elif event in STARTS:
            program = arguments[1 if event == "os.spawn" else 0]
            # a program that takes the place of this one lives on under its number, and is seen as itself
            kind = "became" if event == "os.exec" else "started"
            note(kind, os.fsdecode(arguments[1][0] if program is None else program))

    note("python", sys.executable or "")
    sys.addaudithook(hook)


def _make_room() -> None:
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [folder for folder in sys.path if os.path.abspath(folder or ".") != here]
    observer = sys.modules.pop("sitecustomize", None)
    with contextlib.suppress(ImportError):
        importlib.import_module("sitecustomize")
    if observer is not None:
        sys.modules.setdefault("sitecustomize", observer)


if os.environ.get(NOTES):
    with contextlib.suppress(OSError):  # without notes the harness knows that it does not know
        _observe(os.environ[NOTES])
_make_room()
