"""Environments of engines whose dependencies clash: one interpreter for each, made from pinned requirements.

ROOT/NAME/environment.json    what is installed and where; written last, so that what is half-made is never used
ROOT/NAME/SHA256/             the environment itself, named by its requirements

ROOT is LOGITPROOF_ENGINES, or `logitproof/engines` in the user's data folder. The requirements of the engine NAME are the
file `requirements/NAME.txt` beside its own: pins of every package that it imports, pydantic and numpy included, and
perhaps a line `# remove: PACKAGE ...` of what must not stay beside them. Where a lock lies beside it (`locks.py`), pip
installs what the lock names, by its hashes, and nothing else.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from logitproof import catalog
from logitproof.documents.document import Document
from logitproof.documents.section import Column, Row, Table, Tone, Verdict
from logitproof.errors import ContractError, EnvironmentFailed
from logitproof.files.system import in_words
from logitproof.files.untrusted import read_object
from logitproof.jobs.locks import lock_of, requirements_sha256

RECORD = "environment.json"
REMOVE = "# remove:"
OURS = re.compile("[0-9a-f]{16}")
"""Names of the folders that are made here, and no others are removed."""
QUOTED = 8
"""Last lines of pip that an error quotes."""
PIP = ("-m", "pip", "--disable-pip-version-check", "--no-input")
Tell = Callable[[str], None]
TONES: dict[str, Tone] = {"current": "good", "outdated": "unsure", "missing": "bad"}


@dataclass(frozen=True)
class Environment:
    """A whole environment: its folder, the sha256 of the requirements it was made from, every package's version."""

    folder: str
    requirements_sha256: str
    packages: dict[str, str]

    @property
    def python(self) -> Path:
        return Path(self.folder) / "bin/python"


def root() -> Path:
    """The folder of all environments."""
    if own := os.environ.get("LOGITPROOF_ENGINES"):
        return Path(own).absolute()
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share") / "logitproof/engines"


def requirements(name: str) -> Path | None:
    """The file of an engine's pinned requirements; None for an engine that needs no environment of its own."""
    entry = catalog.find("engines", name)
    path = entry.file.parent / "requirements" / f"{entry.name}.txt"
    return path if path.is_file() else None


def installed(name: str, into: Path | None = None) -> Environment | None:
    """The environment of an engine if it is whole, whatever requirements it was made from."""
    try:
        record = read_object((into or root()) / name / RECORD)
        environment = Environment(**record)
    except (ContractError, ValueError, TypeError):
        return None
    return environment if environment.python.exists() else None


def is_current(name: str, environment: Environment) -> bool:
    """Whether the requirements are still those that the environment was made from."""
    path = requirements(name)
    return path is not None and requirements_sha256(path) == environment.requirements_sha256


def remedy(name: str) -> str:
    """What to do where a package of this engine is missing."""
    return f"logitproof engines install {name}" if requirements(name) else "install the engine's extra, see `logitproof doctor`"


def own_folder() -> str:
    """The environment that this process runs in, empty where it is none of these."""
    return sys.prefix if (Path(sys.prefix).parent / RECORD).is_file() else ""


def install(name: str, into: Path | None = None, *, tell: Tell, prove: Callable[[Path], object]) -> Environment:
    """Make the environment of an engine, or go on with one that was begun; it counts once `prove(python)` returns.

    `tell` is given a line for every step. Raises ContractError for an engine without requirements, EnvironmentFailed with
    pip's last words, and whatever `prove` raises.
    """
    pinned = requirements(name)
    if pinned is None:
        raise ContractError(
            f"{name} needs no environment of its own", where=name, remedy="`logitproof engines list` shows which do"
        )
    home = (into or root()).absolute() / name
    with _alone(home):
        folder = home / requirements_sha256(pinned)[:16]
        python = folder / "bin/python"
        if not _runs(python):
            tell(f"making {folder}")
            shutil.rmtree(folder, ignore_errors=True)
            _run([sys.executable, "-m", "venv", str(folder)], tell)
        pip = [str(python), *PIP]
        if lock := lock_of(pinned, pip, _clean()):
            tell(f"by the hashes of {lock.name}")
        chosen = ["--require-hashes", "-r", str(lock)] if lock else ["-r", str(pinned)]
        _run([*pip, "install", "--progress-bar", "off", *chosen], tell)
        if unwanted := _unwanted(pinned):
            _run([str(python), *PIP, "uninstall", "--yes", *unwanted], tell)
        prove(python)
        made = Environment(str(folder), requirements_sha256(pinned), _packages(python))
        _commit(home, made)
    return made


def states(into: Path | None = None) -> list[dict[str, object]]:
    """Every engine that has requirements: `state` is current, outdated (made from other pins) or missing."""
    rows: list[dict[str, object]] = []
    for name in catalog.entries("engines"):
        if (pinned := requirements(name)) is None:
            continue
        environment = installed(name, into)
        state = "missing" if environment is None else "current" if is_current(name, environment) else "outdated"
        pins = [line.strip() for line in pinned.read_text("utf-8").splitlines() if line.strip() and not line.startswith("#")]
        rows.append(
            {"name": name, "state": state, "python": str(environment.python) if environment else None, "requirements": pins}
        )
    return rows


def document(rows: Sequence[dict[str, object]]) -> Document:
    """A row an engine, with its interpreter or the remedy for what is missing."""
    table = tuple(
        Row((str(row["state"]), str(row["name"]), str(row["python"] or remedy(str(row["name"])))), TONES[str(row["state"])])
        for row in rows
    )
    whole = [row for row in rows if row["state"] == "current"]
    first = next((remedy(str(row["name"])) for row in rows if row["state"] != "current"), "")
    verdict = Verdict("ENVIRONMENTS", f"{len(whole)} of {len(rows)} are made and current")
    columns = (Column("state", width=9), Column("engine", width=18), Column("interpreter, or the remedy", "code"))
    return Document("Engines with an environment of their own", verdict, (Table(columns, table),), first)


def _runs(python: Path) -> bool:
    """Whether an environment that was begun has an interpreter with pip: without, it is made afresh."""
    try:
        return subprocess.run([str(python), *PIP, "--version"], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def _run(arguments: Sequence[str], tell: Tell) -> None:
    words: deque[str] = deque(maxlen=QUOTED)
    with subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", env=_clean()
    ) as process:
        assert process.stdout
        for line in process.stdout:
            words.append(line.rstrip())
            tell(line.strip())
    if process.returncode != 0:
        last_words = "\n    ".join(words)
        raise EnvironmentFailed(
            f"`{' '.join(arguments[1:4])}` ended with exit code {process.returncode}\n    {last_words}",
            where=arguments[0],
            remedy="mend what it complains of and run the same command again: it goes on where it stopped",
        )


def _clean() -> dict[str, str]:
    """The variables without the paths of this interpreter, which pip would take for packages that are there already."""
    return {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}


def _unwanted(pinned: Path) -> list[str]:
    lines = pinned.read_text("utf-8").splitlines()
    return [name for line in lines if line.startswith(REMOVE) for name in line.removeprefix(REMOVE).split()]


def _packages(python: Path) -> dict[str, str]:
    arguments = [str(python), *PIP, "list", "--format", "json"]
    listing = subprocess.run(arguments, capture_output=True, check=True, text=True, env=_clean()).stdout
    return {package["name"]: package["version"] for package in json.loads(listing)}


def _commit(home: Path, made: Environment) -> None:
    part = home / f".{RECORD}"
    part.write_text(json.dumps(asdict(made), indent=1), "utf-8")
    os.replace(part, home / RECORD)
    for entry in home.iterdir():
        if OURS.fullmatch(entry.name) and entry != Path(made.folder):
            shutil.rmtree(entry, ignore_errors=True)


@contextmanager
def _alone(home: Path) -> Iterator[None]:
    """Hold a lock: two commands that make one environment would spoil each other's work."""
    try:
        home.mkdir(parents=True, exist_ok=True)
        lock = (home / ".lock").open("w")
    except OSError as error:
        raise EnvironmentFailed(
            f"cannot write there: {in_words(error)}", where=str(home), remedy="give another --into"
        ) from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise EnvironmentFailed("another command is making it", where=str(home), remedy="wait for it") from None
        yield
