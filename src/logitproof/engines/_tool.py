"""One of llama.cpp's command-line tools: found, asked what it can do, run with a time limit, and quoted when it fails."""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from logitproof.engines._llama_build import build_facts
from logitproof.errors import Refusal
from logitproof.files.ended import advice, signal_name
from logitproof.files.hashes import file_sha256
from logitproof.files.last_words import last_words, shortened

WORDS = 12
"""Lines of a tool that are quoted in an error."""
FLAG = re.compile(r"(?<![\w-])--?[a-zA-Z][\w-]*")
TOKEN_LINE = re.compile(r"^.*?(\d+) -> '", re.MULTILINE)
"""A token of the prompt, as `--verbose-prompt` prints it; what precedes the id is the log's own prefix."""


@dataclass(frozen=True)
class Said:
    """What a tool wrote."""

    out: bytes
    err: str


@dataclass(frozen=True)
class Tool:
    """A program by its path, or by its name on PATH."""

    program: str

    @functools.cached_property
    def path(self) -> Path:
        path = shutil.which(self.program)
        if path is None:
            remedy = "name the built program; `make llama-tools` builds the pinned one"
            raise Refusal(f"{self.program!r} is no program that can be run", field="binary", remedy=remedy)
        return Path(path).resolve()

    @functools.cached_property
    def flags(self) -> set[str]:
        """Every flag that its `--help` names."""
        output = self._run(["--help"], 60.0)
        return set(FLAG.findall(output.stdout.decode("utf-8", "replace") + output.stderr.decode("utf-8", "replace")))

    def versions(self) -> dict[str, str]:
        """What it calls itself, and the sha256 of it and of the libraries beside it."""
        output = self._run(["--version"], 60.0)
        text = (output.stdout + output.stderr).decode("utf-8", "replace")
        line = next((line.strip() for line in text.splitlines() if "version" in line), "unknown")
        files = [self.path, *sorted(self.path.parent.glob("lib*.so*"))]
        hashes = {file.name: file_sha256(file) for file in files if not file.is_symlink()}
        facts = build_facts(self.path, line)
        return {"llama.cpp": line, **facts, **{f"sha256 of {name}": value for name, value in hashes.items()}}

    def needs(self, flags: Sequence[str], remedy: str) -> None:
        """Refuse a build whose `--help` lacks one of these: flags have changed between versions."""
        missing = [flag for flag in flags if flag not in self.flags]
        if missing:
            raise Refusal(f"{self.path.name} knows no {missing[0]} (by its --help)", field="binary", remedy=remedy)

    def run(self, arguments: Sequence[str], timeout: float) -> Said:
        """Its output; a hang, a crash or an exit code is an error with its last words. stdin is closed."""
        done = self._run(arguments, timeout)
        err = done.stderr.decode("utf-8", "replace")
        if done.returncode != 0:
            code = done.returncode
            how = f"was killed by {name}" if (name := signal_name(code)) else f"ended with exit code {code}"
            raise RuntimeError(f"{self.path.name} {how}{advice(code)}: {quoted(err or done.stdout.decode('utf-8', 'replace'))}")
        return Said(done.stdout, err)

    def _run(self, arguments: Sequence[str], timeout: float) -> subprocess.CompletedProcess[bytes]:
        try:
            return subprocess.run(
                [str(self.path), *arguments], stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout, check=False
            )
        except subprocess.TimeoutExpired as late:
            words = quoted((late.stderr or late.stdout or b"").decode("utf-8", "replace"))
            raise RuntimeError(f"{self.path.name} did not end within {timeout:g} s, so it was killed: {words}") from None


def prompt_ids(err: str) -> list[int]:
    """The ids that `--verbose-prompt` printed."""
    _, _, listed = err.partition("number of tokens in prompt")
    return [int(token) for token in TOKEN_LINE.findall(listed)]


def quoted(text: str) -> str:
    """What a tool wrote, on one line: its first lines, the one with which it gave up, and its last."""
    return " | ".join(line.strip() for line in shortened(last_words(text), WORDS)) or "it said nothing"
