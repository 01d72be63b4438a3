"""A natural mistake: what a person gets wrong, what is run, and which words must and must not come."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from _vacuous_project import Project

SOURCE = Path(__file__).parents[1] / "src"
WIDTH = "100"
PATIENCE = 300
TRACEBACK = "Traceback (most recent call last)"
FRAME = re.compile(r'File "([^"]+)", line \d+')
FOREIGN = re.compile(
    r"Input should|valid dictionary|Field required|validation error|Value error|Extra inputs|after validation|\[Errno"
    r"|RuntimeWarning|could not broadcast|out of bounds for axis|index \d+ is out of|object has no attribute|NoneType"
)
"""What only a library says."""
GUESSES = re.compile(r"known bug|bug: |two bugs|three bugs|four bugs")
"""A named bug of a model: the wrong cause of every mistake here."""


@dataclass(frozen=True)
class Mistake:
    """`words` are patterns that must all come, `never` those of a cause that it is not; `code` is the exit code."""

    name: str
    run: Callable[[Project], tuple[int, str]]
    code: int
    words: tuple[str, ...]
    never: tuple[str, ...] = ()

    def judged(self, code: int, said: str, place: Path) -> dict[str, Any]:
        """What came of it in the project at `place`."""
        # the next command names what it would answer
        flat = " ".join(word for line in said.splitlines() if not line.startswith("next:") for word in line.split())
        missing = [words for words in self.words if not re.search(words, flat)]
        false = [words for words in self.never if re.search(words, flat)]
        false += [found[0] for found in (FOREIGN.search(flat), GUESSES.search(flat)) if found]
        own, quoted = tracebacks(said, place)
        return {
            "name": self.name,
            "exit_code": code,
            "named_right": code == self.code and not missing,
            "missing": missing,
            "false_causes": false,
            "tracebacks": own,
            "quoted": quoted,
        }


def tracebacks(said: str, place: Path) -> tuple[int, int]:
    """How many tracebacks are of the command itself, and how many are quoted of an engine that died in Python.

    An engine's is content: it is indented below the line that tells of it, or begins in a script of the project at `place`,
    and no frame of it is logitproof's. Python's own begins at the left edge; whatever else begins there is the command's.
    """
    parts = said.split(TRACEBACK)
    blocks = [(before.rpartition("\n")[2], FRAME.findall(block)) for before, block in pairwise(parts)]
    quoted = sum(
        ((bool(edge) and edge.isspace()) or (bool(files) and Path(files[0]).is_relative_to(place)))
        and not any(Path(file).is_relative_to(SOURCE) for file in files)
        for edge, files in blocks
    )
    return len(blocks) - quoted, quoted


def command(project: Project, *words: str) -> tuple[int, str]:
    """Run the command line in the project's folder, as a person would; the exit code and all that it prints."""
    environment = {**os.environ, "COLUMNS": WIDTH, "LOGITPROOF_HISTORY": "off", "GITHUB_ACTIONS": "", "PYTHONPATH": str(SOURCE)}
    done = subprocess.run(
        [sys.executable, "-m", "logitproof", *words], cwd=project.folder, env=environment, capture_output=True, timeout=PATIENCE
    )
    return done.returncode, (done.stdout + b"\n" + done.stderr).decode("utf-8", "replace")


def runs(*words: str) -> Callable[[Project], tuple[int, str]]:
    """A command on the project as it is; `{contract}` stands for its contract."""

    def run(project: Project) -> tuple[int, str]:
        contract = project.contract()
        return command(project, *(word.replace("{contract}", contract.name) for word in words))

    return run


def contract(verb: str = "check", **changes: Any) -> Callable[[Project], tuple[int, str]]:
    """A command on the contract with some of its keys replaced."""

    def run(project: Project) -> tuple[int, str]:
        return command(project, verb, project.contract(**changes).name)

    return run


def edited(old: str, new: str | bytes, verb: str = "check") -> Callable[[Project], tuple[int, str]]:
    """A command on the contract with some of its text replaced."""

    def run(project: Project) -> tuple[int, str]:
        path = project.contract()
        data = path.read_bytes()
        assert old.encode() in data, old
        path.write_bytes(data.replace(old.encode(), new if isinstance(new, bytes) else new.encode(), 1))
        return command(project, verb, path.name)

    return run


def engine(changes: str, verb: str = "check", timeout: float = 20, **more: Any) -> Callable[[Project], tuple[int, str]]:
    """A contract whose candidate does something else, or `protocol test` of it."""

    def run(project: Project) -> tuple[int, str]:
        use = {**project.engine(changes), "timeout": timeout}
        path = project.contract(candidates={"mine": use}, **more)
        if verb == "protocol":
            argv = f'["{sys.executable}", "mine.py"]'
            return command(project, "protocol", "test", f"command:weights.json?argv={argv}", "--timeout", str(timeout))
        return command(project, verb, path.name)

    return run


def written(name: str, text: str, *words: str) -> Callable[[Project], tuple[int, str]]:
    """A file more in the project, then a command."""

    def run(project: Project) -> tuple[int, str]:
        project.contract()
        path: Path = project.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
        return command(project, *words)

    return run
