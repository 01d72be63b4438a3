"""Weights by content: which files a model has, and a node's own cache of them.

CACHE/models/SHA256/NAME       a whole model, named by the sha256 of all its names and contents
CACHE/partial/PID-…            what is being fetched, or was left by a task that was killed

CACHE is `LOGITPROOF_NODE_CACHE`, or `logitproof/node` in the user's cache folder. With the variable set, weights are taken
from there alone; without, from the path that the contract names, if its content is the one that is asked for.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from logitproof.errors import EnvironmentFailed, LogitproofError
from logitproof.files.atomic import environment_errors
from logitproof.files.hashes import file_sha256
from logitproof.jobs.cluster.messages import WeightFile, Weights
from logitproof.traces.store import is_alive
from logitproof.weights.model import files_of, weights_sha256

OWN = "LOGITPROOF_NODE_CACHE"
PIECE = 8 << 20
"""Bytes of a file that travel at a time."""
NAME = re.compile("[0-9a-f]{64}")
Read = Callable[[str, int, int], bytes]
"""Reads so many bytes of a content by its sha256, from an offset on."""


def manifest(path: Path, sha256: str) -> Weights:
    """What a model consists of."""
    folder = path if path.is_dir() else path.parent
    files = [
        WeightFile(name=file.relative_to(folder).as_posix(), sha256=file_sha256(file), size=file.stat().st_size)
        for file in files_of(path)
    ]
    return Weights(path=str(path), sha256=sha256, is_folder=path.is_dir(), files=files)


def cache() -> Path:
    """The node's cache."""
    if own := os.environ.get(OWN):
        return Path(own).absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "logitproof/node"


def held() -> list[str]:
    """Models that the cache holds, by sha256."""
    with contextlib.suppress(OSError):
        return sorted(entry.name for entry in (cache() / "models").iterdir() if NAME.fullmatch(entry.name))
    return []


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A folder for what is half-made, gone afterwards; what killed tasks left is swept."""
    place = cache() / "partial"
    with environment_errors(place):
        place.mkdir(parents=True, exist_ok=True)
        for leftover in place.iterdir():
            if not is_alive(leftover.name.partition("-")[0]):
                shutil.rmtree(leftover, ignore_errors=True)
        folder = Path(tempfile.mkdtemp(prefix=f"{os.getpid()}-", dir=place))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def local(weights: Weights, read: Read) -> tuple[Path, int]:
    """Where the weights lie on this machine, and how many bytes were fetched for that.

    Raises EnvironmentFailed where they cannot be kept, or what came is not what was asked for.
    """
    named = Path(weights.path)
    if not os.environ.get(OWN) and named.exists() and _is(named, weights.sha256):
        return named, 0
    home = cache() / "models" / weights.sha256
    place = home / named.name
    with _alone(home):
        if place.exists() and _is(place, weights.sha256):
            return place, 0
        with scratch() as folder:
            fetched = _fetch(weights, folder / named.name if weights.is_folder else folder, read)
            if not _is(folder / named.name, weights.sha256):
                raise EnvironmentFailed("came otherwise than it was sent", where=str(place), remedy="run it again")
            with environment_errors(home):
                shutil.rmtree(home, ignore_errors=True)
                os.replace(folder, home)
    return place, fetched


def _is(path: Path, sha256: str) -> bool:
    try:
        return weights_sha256(path) == sha256
    except (OSError, LogitproofError):
        return False


def _fetch(weights: Weights, folder: Path, read: Read) -> int:
    """Every file, piece by piece; raises EnvironmentFailed where one is not of its sha256."""
    for file in weights.files:
        path = (folder / file.name).resolve()
        if not path.is_relative_to(folder.resolve()):
            raise EnvironmentFailed(f"the name {file.name!r} leads out of the model's folder", where=weights.path)
        digest = hashlib.sha256()
        with environment_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as out:
                for offset in range(0, file.size, PIECE):
                    piece = read(file.sha256, offset, min(PIECE, file.size - offset))
                    digest.update(piece)
                    out.write(piece)
        if digest.hexdigest() != file.sha256:
            text = f"{file.name} has another sha256 than it had when the run began: it was cut short or replaced"
            raise EnvironmentFailed(text, where=weights.path, remedy="let nothing write to the weights during a run")
    return sum(file.size for file in weights.files)


@contextlib.contextmanager
def _alone(home: Path) -> Iterator[None]:
    """One task at a time fetches a model; the next finds it."""
    with environment_errors(home):
        home.parent.mkdir(parents=True, exist_ok=True)
        lock = home.with_suffix(".lock").open("w")
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
