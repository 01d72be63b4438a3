"""A disk that is full, at every write of every command that is tried: clear words, exit 3, and no file that is torn.

The first run of a command tells which files it writes; then each of them fails once. Python says so before it opens,
makes, moves or removes anything (audit events), whoever asks it to; what other languages write meets a limit of the system.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from conftest import BASIS, Project
from logitproof.cli import main
from logitproof.contract.opened import open_contract
from logitproof.files.system import WORDS
from logitproof.runs.workspace import Workspace

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
EVENTS = ("open", "os.mkdir", "os.rename", "os.truncate", "shutil.copyfile", "os.symlink")
RANDOM = re.compile(r"(?<=[._-])[a-z0-9_]{8}(?=/|$|\.)|[0-9a-f]{16,64}|\d+-|(?<=traces/)[0-9a-f]{2}\b|(?<=report-)\d(?=\.svg)")
"""What differs from run to run in the names of files, or from one file of a kind to the next."""


class Disk:
    """Counts what is written below a folder, and refuses one write of it."""

    def __init__(self) -> None:
        self.folder: Path | None = None
        self.number, self.seen = 0, list[str]()
        self.code = errno.ENOSPC
        sys.addaudithook(self._asked)

    @contextlib.contextmanager
    def watching(self, folder: Path, number: int = 0, code: int = errno.ENOSPC) -> Iterator[list[str]]:
        """What is written, by its name; the write of this number, from 1, fails."""
        self.folder, self.number, self.code, self.seen = folder, number, code, []
        try:
            yield self.seen
        finally:
            self.folder = None

    def _asked(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.folder is None or event not in EVENTS:
            return
        path = arguments[-1] if event in ("os.rename", "shutil.copyfile", "os.symlink") else arguments[0]
        if event == "os.rename":
            path = arguments[1]
        if not isinstance(path, str | bytes | os.PathLike) or (event == "open" and not _writes(*arguments[1:3])):
            return
        name = os.fsdecode(path)
        if event == "os.mkdir" and Path(name).is_dir():
            return  # asks for what is there
        if name.startswith(str(self.folder)) and "__pycache__" not in name:
            self.seen.append(f"{event} {RANDOM.sub('*', name[len(str(self.folder)) :])}")
            if len(self.seen) == self.number:
                raise OSError(self.code, os.strerror(self.code), name)


def _writes(mode: object, flags: object) -> bool:
    if isinstance(mode, str):
        return bool(set(mode) & set("wax+"))
    return isinstance(flags, int) and bool(flags & WRITES)


@pytest.fixture(scope="module")
def disk() -> Disk:
    return Disk()


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that was run, a capture of one of its engines, and a key."""
    project = Project(tmp_path_factory.mktemp("template"))
    contract = project.contract()
    assert Workspace(project.folder / "run").check(open_contract(contract)).verdict.status == "PASS"
    os.chdir(project.folder)
    project.suite("single.yaml", "hello there")
    for name, suite in {"capture": "suite.yaml", "single": "single.yaml"}.items():
        assert cli("capture", "toy", "toy.json", suite, "--out", name).exit_code == 0
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", "key.pem"], check=True, capture_output=True)
    return project.folder


def cli(*words: str) -> Result:
    return CliRunner().invoke(main, list(words))


COMMANDS: dict[str, tuple[str, ...]] = {
    "check": ("check", "toys.parity.yaml", "--out", "OUT/new"),
    "judge": ("judge", "OUT/run"),
    "attest": ("attest", "OUT/run", "--key", "key.pem"),
    "capture": ("capture", "toy", "toy.json", "suite.yaml", "--out", "OUT/other"),
    "freeze": ("freeze", "capture", "--out", "OUT/golden.safetensors"),
    "pin": ("pin", "toys.parity.yaml", "--out", "OUT/x.pins.yaml", "--no-engines"),
    "new": ("new", "OUT/x.parity.yaml"),
    **{
        f"convert to {name}": ("convert", source, f"OUT/x.{name}", "--to", name)
        for source, names in {
            "capture": ("ndjson", "hf_fixture", "safetensors_golden"),
            "single": ("raw_f32", "npy", "key_value", "llamacpp_kl_base", "aprrawlg"),
        }.items()
        for name in names
    },
}


def fresh(template: Path, folder: Path) -> Path:
    """A copy of the project in a place of its own, in which the command is then run."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(template, folder)
    record = folder / "run/run.json"
    record.write_text(record.read_text().replace(str(template), str(folder)))
    return folder


def torn(folder: Path) -> list[str]:
    """Files under their own names that are not whole, and what a write left behind under a name of its own."""
    found = []
    for path in folder.rglob("*"):
        relative = path.relative_to(folder)
        if any(part.startswith(".") for part in relative.parts):
            found.append(f"{relative} was left behind")
        elif path.suffix == ".json" and path.name != "in-use.json":
            try:
                json.loads(path.read_text("utf-8"))
            except ValueError:
                found.append(str(relative))
        elif path.suffix == ".parquet":
            try:
                pq.read_table(path)
            except Exception:  # whatever Arrow says of a file that is cut off
                found.append(str(relative))
    return found


@pytest.mark.parametrize("name", COMMANDS)
def test_every_write_may_fail(disk: Disk, template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    folder = fresh(template, tmp_path / "p")
    monkeypatch.chdir(folder)
    words = [word.replace("OUT", str(folder)) for word in COMMANDS[name]]
    with disk.watching(folder) as seen:
        whole = cli(*words)
    assert whole.exit_code == 0, whole.output
    first = one_way_each({text: number for number, text in reversed([*enumerate(seen, 1)])})
    assert first, "the command writes nothing that is seen"
    codes = [errno.ENOSPC, errno.EROFS, errno.EACCES]
    for count, (text, number) in enumerate(first.items()):
        fresh(template, folder)
        monkeypatch.chdir(folder)  # the one before is gone
        code = codes[count % len(codes)]
        with disk.watching(folder, number, code) as again:
            done = cli(*words)
        if len(again) < number:
            continue  # another order of two engines
        assert done.exit_code == 3, (text, done.exit_code, done.output, done.exception)
        assert isinstance(done.exception, SystemExit), (text, done.exception)
        assert WORDS[code] in done.output and str(folder) in done.output, (text, done.output)
        assert not torn(folder), (text, torn(folder))
        assert cli(*words).exit_code == 0, f"after {text} the same command does not go on"


def one_way_each(first: dict[str, int]) -> dict[str, int]:
    """Of a file that is written beside itself and then put in its place, in turn the one and the other: each costs two runs."""
    ways: dict[str, list[str]] = {}
    for text in first:
        event, _, name = text.partition(" ")
        folder, _, file = name.rpartition("/")
        whole = f"{folder}/{file.removeprefix('.').removesuffix('.*')}" if event == "open" else name
        ways.setdefault(whole if event in ("open", "os.rename") else text, []).append(text)
    kept = {texts[count % len(texts)] for count, texts in enumerate(ways.values())}
    return {text: number for text, number in first.items() if text in kept}


LIMITS = (0, 3000)


@pytest.mark.parametrize("limit", LIMITS)
def test_a_file_that_cannot_grow_ends_a_run_with_clear_words_and_the_next_run_passes(tmp_path: Path, limit: int) -> None:
    """Of the harness, its engines and all that they are written in: a write that goes half way."""
    project = Project(tmp_path)
    mine = {**project.engine(), "may_be_exact": BASIS}
    contract = project.contract(candidates={"mine": mine}, reference=project.engine("#", "r.py"))
    done = limited(contract, limit)
    assert done.returncode == 3, (limit, done.returncode, done.stderr)
    assert "Traceback" not in done.stderr
    assert not torn(tmp_path)
    done = limited(contract, -1)
    assert done.returncode == 0, done.stdout + done.stderr


def limited(contract: Path, limit: int) -> subprocess.CompletedProcess[str]:
    def confine() -> None:
        if limit >= 0:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    argv = [sys.executable, "-m", "logitproof", "check", contract.name, "--out", "run"]
    return subprocess.run(argv, cwd=contract.parent, capture_output=True, text=True, check=False, preexec_fn=confine)


def test_a_second_run_in_a_folder_is_refused_as_an_error_of_the_environment(template: Path, tmp_path: Path) -> None:
    from logitproof.files.lock import in_use

    folder = fresh(template, tmp_path / "p")
    with in_use(folder / "run", "another"):
        done = cli("check", str(folder / "toys.parity.yaml"), "--out", str(folder / "run"))
    assert (done.exit_code, "in use by another run: another" in done.output) == (3, True), done.output


@pytest.mark.parametrize("words", [("check", "toys.parity.yaml", "--out", "run"), ("judge", "run")])
def test_a_clock_that_was_set_back_is_told(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: Any) -> None:
    folder = fresh(template, tmp_path / "p")
    monkeypatch.chdir(folder)
    later = (datetime.now(UTC) + timedelta(days=3)).isoformat(timespec="seconds")
    for name, keys in {"run/run.json": ("facts",), "run/verdict.json": ()}.items():
        record = json.loads((folder / name).read_text())
        inner = record
        for key in keys:
            inner = inner[key]
        inner["made_at"] = later
        (folder / name).write_text(json.dumps(record))
    done = cli(*words)
    assert (done.exit_code, "the clock of this machine says" in done.output) == (3, True), done.output


def test_an_error_of_the_system_that_nobody_foresaw_is_a_sentence_and_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    import logitproof.commands.new as command

    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error", "somewhere")

    monkeypatch.setattr("logitproof.commands._starter.write_starter", fail)
    assert command
    done = cli("new", "x.parity.yaml")
    assert (done.exit_code, done.output) == (3, "error: somewhere: input/output error\n  remedy: see what the system says\n")
