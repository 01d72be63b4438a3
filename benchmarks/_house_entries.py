"""One file more of each kind, added to a copy of the repository, and which other files that makes one touch.

The copy's own checks say what is missing: the law of layers, the tests of `tests/unit` that walk through the catalogue (or
through the commands), and for a bug the power test of its family. A page that a script of docs/ writes is counted like one
that a hand writes; a test that still fails then names one file more, which only a hand can change.
"""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
LAW = "tests/unit/test_layers.py"

ENGINE = '''\
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from logitproof.engines import Engine, Hello, Loaded, Mode, Scored


@dataclass
class Added(Engine):
    """Gives the same row at every position."""

    size: int

    def hello(self) -> Hello:
        return Hello(versions={"added": "1"}, generate=False, tokenize=False)

    def load(self, model: Path, config: Path | None = None) -> Loaded:
        return Loaded(vocab_size=self.size)

    def score(self, token_ids: Sequence[int], mode: Mode) -> Scored:
        return Scored(np.zeros((len(token_ids), self.size), np.float32))
'''
METRIC = '''\
from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from logitproof.metrics import Better, Metric

if TYPE_CHECKING:
    from logitproof.rows.statistics import RowStats


@dataclass
class Added(Metric):
    """The candidate's largest logit less the reference's."""

    unit: ClassVar[str] = "logits"
    better: ClassVar[Better] = "zero"
    formula: ClassVar[str] = "max z_t - max z_r"

    def compute(self, stats: RowStats) -> np.ndarray:
        return stats.max_candidate - stats.max_reference
'''
BUG = '''\
from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

from logitproof.mutations import Mutation
from logitproof.reference.patches import outputs_changed


@dataclass
class Added(Mutation):
    """The logits are multiplied by a factor."""

    bug: ClassVar[str] = "the logits are multiplied by a factor"
    shows: ClassVar[str] = "every position is wrong by the same factor"
    seen_in: ClassVar[tuple[str, ...]] = ()
    first_tap: ClassVar[str] = "logits"
    remedy: ClassVar[str] = "take the factor out"
    grid: ClassVar[dict[str, tuple[Any, ...]]] = {"factor": (3.0,)}
    ranges: ClassVar[dict[str, tuple[float, float]]] = {"factor": (1.5, 10.0)}

    factor: float = 3.0

    def applies(self, config: Any) -> bool:
        return True

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        def change(module: Any, inputs: tuple[Any, ...], out: Any) -> Any:
            out.logits = out.logits * self.factor
            return out

        return outputs_changed([model], change)
'''
READER = '''\
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from logitproof.readers import Peek, Reader
from logitproof.traces.dump import Dump, DumpedPrompt


@dataclass
class Added(Reader):
    """A text file that begins with `ADDED`: one row of zeros."""

    def recognizes(self, peek: Peek) -> bool:
        return peek.head.startswith(b"ADDED")

    def read(self, path: Path) -> Dump:
        return Dump((DumpedPrompt("0", (1,), 1, np.zeros(1, np.int64), np.zeros((1, 4), np.float32)),), 4)
'''
COMMAND = '''\
"""`logitproof added`."""

from __future__ import annotations

import click

from logitproof.commands._exits import SHOWN, ends_with


@ends_with(SHOWN)
@click.command("added")
def command() -> None:
    """Say that it was added."""
    click.echo("added")
'''


@dataclass(frozen=True)
class Addition:
    """A new file, how it is listed, and the power test that runs it if there is one."""

    kind: str
    file: str
    text: str
    listing: tuple[str, ...]
    name: str
    walks: str
    """What a test that walks through all of its kind has in its source."""
    power: tuple[str, ...] = ()


ADDITIONS = (
    Addition("engine", "engines/added.py", ENGINE, ("list", "engines"), "added", 'entries("engines")'),
    Addition("metric", "metrics/added.py", METRIC, ("list", "metrics"), "added", 'entries("metrics")'),
    Addition(
        "bug", "mutations/head/added.py", BUG, ("list", "mutations"), "head.added", 'entries("mutations")',
        ("tests/power/test_mutations_head.py", "-k", "added"),
    ),
    Addition("reader", "readers/added.py", READER, ("list", "readers"), "added", 'entries("readers")'),
    Addition(
        "command", "commands/added.py", COMMAND, ("--help",), "added", "list_commands", ("tests/unit/test_commands_page.py",)
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Touched:
    """Files beside the new one that had to change: written by a script of docs/, or by hand for a test that still fails."""

    by_script: tuple[str, ...]
    by_hand: tuple[str, ...]
    tests: tuple[str, ...]

    @property
    def files(self) -> int:
        return len(self.by_script) + len(self.by_hand)

    def as_json(self) -> dict[str, object]:
        return {"by_script": list(self.by_script), "by_hand": list(self.by_hand), "asked": list(self.tests)}


class Copy:
    """A copy of the repository's working tree in which additions are tried, one at a time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        listed = _run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], ROOT).stdout
        for name in filter(None, listed.split("\0")):
            if (source := ROOT / name).is_file() and not source.is_symlink():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, folder / name)

    def touched(self, addition: Addition) -> Touched:
        """Add the file and run what walks through its kind; what fails is mended by the scripts of docs/, or by hand."""
        tests = (LAW, *self._walking(addition.walks))
        known = self._failing(tests)
        new = self.folder / "src/logitproof" / addition.file
        new.write_text(addition.text, "utf-8")
        try:
            self._check_listed(addition)
            failing = self._failing(tests) | self._failing(addition.power)
            written = self._scripted() if failing - known else {}
            still = self._failing(tests) | self._failing(addition.power) if written else failing
            for name, content in written.items():
                (self.folder / name).write_bytes(content)
            return Touched(tuple(sorted(written)), tuple(sorted(still - known)), tests + addition.power)
        finally:
            new.unlink()

    def _check_listed(self, addition: Addition) -> None:
        shown = self._python("-m", "logitproof", *addition.listing)
        if shown.returncode or addition.name not in shown.stdout.split():
            raise SystemExit(f"{addition.file} was added and `logitproof {' '.join(addition.listing)}` does not show it")

    def _walking(self, walks: str) -> list[str]:
        """The tests whose source, or whose file's helpers, walk through the catalogue."""
        ids = []
        for path in sorted((self.folder / "tests/unit").glob("test_*.py")):
            text = path.read_text("utf-8")
            functions = [node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)]
            ids += [
                f"{path.relative_to(self.folder)}::{function.name}"
                for function in functions
                if function.name.startswith("test_") and walks in (ast.get_source_segment(text, function) or "")
            ]
        return ids

    def _failing(self, arguments: tuple[str, ...]) -> set[str]:
        """The tests that fail, by their ids."""
        if not arguments:
            return set()
        ended = self._python("-m", "pytest", "-q", "--tb=no", "-rfE", "-p", "no:cacheprovider", *arguments)
        if ended.returncode not in (0, 1):
            raise SystemExit(f"the tests {' '.join(arguments)} did not run:\n{ended.stdout}\n{ended.stderr}")
        lines = [line.split() for line in ended.stdout.splitlines()]
        return {words[1] for words in lines if words[:1] in (["FAILED"], ["ERROR"])}

    def _scripted(self) -> dict[str, bytes]:
        """Run every script of docs/ that writes a page; the pages that changed, with what stood there before."""
        before = {path: path.read_bytes() for path in (self.folder / "docs").glob("*.md")}
        for script in sorted((self.folder / "docs").glob("*_table.py")):
            self._python(str(script))  # one that fails asks for a row by hand first: a test that still fails tells which
        return {str(path.relative_to(self.folder)): text for path, text in before.items() if path.read_bytes() != text}

    def _python(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return _run([sys.executable, *arguments], self.folder, PYTHONPATH=str(self.folder / "src"))


def _run(argv: list[str], folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, cwd=folder, capture_output=True, text=True, env=os.environ | environment, check=False)
