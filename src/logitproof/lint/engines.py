"""Flags that the pinned build does not have; the real binary is asked. Options of engines are refused on opening."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

from logitproof.contract.contract import EngineUse
from logitproof.contract.opened import OpenContract
from logitproof.lint import Finding, Rule

SECONDS = 10
INTERPRETERS = ("python", "node", "java", "ruby", "perl", "sh", "bash", "deno", "bun", "dotnet", "env")


class Engines(Rule):
    """The programs that engines start."""

    codes: ClassVar[Mapping[str, str]] = {
        "LP030": "the program cannot be found or started",
        "LP031": "a flag that the program does not name in its help",
    }

    def look(self, opened: OpenContract) -> Iterator[Finding]:
        """Ask each program for its help."""
        contract = opened.contract
        uses: list[tuple[tuple[str, ...], EngineUse]] = [(("reference",), contract.reference)]
        uses += [(("references", name), use) for name, use in contract.others.items()]
        uses += [(("candidates", name), use) for name, use in contract.candidates.items()]
        for keys, use in uses:
            argv = use.options.get("argv")
            if isinstance(argv, list) and argv:
                yield from self._program(opened, keys, [str(word) for word in argv])

    def _program(self, opened: OpenContract, keys: tuple[str, ...], argv: Sequence[str]) -> Iterator[Finding]:
        place = (*keys, "options", "argv")
        path = _executable(opened, argv[0])
        if path is None:
            remedy = "build it, or correct the path (it is relative to the contract)"
            yield self.finding(opened, "LP030", *place, text=f"no program is at {argv[0]!r}", remedy=remedy)
            return
        flags = [word.partition("=")[0] for word in argv[1:] if word.startswith("-") and word != "--"]
        if not flags or os.path.basename(path).rstrip("0123456789.") in INTERPRETERS:
            return  # an interpreter's flags and its script's cannot be told apart
        text_of_help = _help(path, str(opened.folder))
        if text_of_help is None:
            text = f"{argv[0]} --help did not end within {SECONDS} s or could not be started"
            yield self.finding(opened, "LP030", *place, text=text, remedy="let it answer --help")
            return
        for flag in flags:
            if flag not in text_of_help:
                text = f"{argv[0]} does not name {flag} in its --help"
                yield self.finding(opened, "LP031", *place, text=text, remedy="use a flag of the pinned build")


def _executable(opened: OpenContract, program: str) -> str | None:
    if os.sep in program:
        path = opened.folder / program
        return str(path.resolve()) if path.is_file() and os.access(path, os.X_OK) else None
    return shutil.which(program)


def _help(path: str, folder: str) -> str | None:
    """What the program prints for --help on both streams, whatever its exit code."""
    try:
        argv = [path, "--help"]
        done = subprocess.run(argv, cwd=folder, capture_output=True, stdin=subprocess.DEVNULL, timeout=SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return (done.stdout + done.stderr).decode("utf-8", "replace")
