"""Where traces lie: what every place of them can do (`TraceStore`), and the one that is a folder (`Store`).

STORE/traces/ab/abcdef…/{trace.json, logits.bin}      complete, or not there
STORE/words/abcdef….json                              what is remembered beside them, as `note` gives it
STORE/partial/…                                       what a killed run left, swept at the next start
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from logitproof.errors import ContractError, EnvironmentFailed, StoreFailed
from logitproof.files.atomic import environment_errors, write_atomically
from logitproof.files.system import in_words
from logitproof.files.untrusted import read_object
from logitproof.traces.trace import LOGITS, ROUTING, Trace, read_trace, sealed, write_routing

RECORD = "trace.json"
FILES = (LOGITS, ROUTING, RECORD)
"""What a trace may consist of."""


class TraceStore(Protocol):
    """Traces by key. Whatever reads or keeps traces asks this, so that they may lie elsewhere than in a folder here."""

    def read(self, key: str) -> Trace | None:
        """The trace with this key, its logits mapped; None for what is not there or not whole."""

    def write(self, folder: Path, trace: Trace) -> Trace:
        """Keep `trace`, whose logits are `logits.bin` in a folder of `partial`, whole or not at all; what `read` gives."""
        ...

    def partial(self) -> AbstractContextManager[Path]:
        """A fresh folder of this machine for a trace in the making."""
        ...

    def forget(self, key: str) -> None:
        """Take the trace with this key away."""

    def sweep(self) -> None:
        """Remove what a killed run left half-made."""

    def clear(self) -> None:
        """Forget every trace."""

    def every(self) -> Iterator[Trace]:
        """All traces, in the order of their keys."""
        ...

    def note(self, kind: str, key: str) -> dict[str, Any]:
        """What is remembered under a key beside the traces, such as `words`; nothing where nothing is."""
        ...

    def remember(self, kind: str, key: str, content: dict[str, Any]) -> None:
        """Keep such a record, in place of the old one."""


class Store:
    """A folder of traces."""

    def __init__(self, folder: Path) -> None:
        # Absolute, because a worker runs in the contract's folder.
        self.folder = folder = folder.resolve()
        try:
            (folder / "traces").mkdir(parents=True, exist_ok=True)
            (folder / "partial").mkdir(exist_ok=True)
        except OSError as error:
            raise EnvironmentFailed(
                f"cannot write there: {in_words(error)}", where=str(folder), remedy="give another --out"
            ) from None

    def read(self, key: str) -> Trace | None:
        """The trace with this key, its logits memory-mapped; none where a byte is not as it was written."""
        try:
            return read_trace(self._place(key))
        except (ContractError, OSError, ValueError):
            return None

    def write(self, folder: Path, trace: Trace) -> Trace:
        """Make `folder` (from `partial`, holding logits.bin) the trace's place, in one rename."""
        place = self._place(trace.key)
        with _kept(place):
            _alone(folder / LOGITS)
            if trace.routing is not None:
                write_routing(folder, trace.routing)
            (folder / RECORD).write_text(json.dumps(sealed(trace.record(), folder)), "utf-8")
            place.parent.mkdir(parents=True, exist_ok=True)
            self._settle(folder, place)
        read = self.read(trace.key)
        if read is None:
            raise StoreFailed("a trace was written and cannot be read back", where=str(place), remedy="look at the disk")
        return read

    def _settle(self, folder: Path, place: Path) -> None:
        """Move `folder` to its place. A whole trace that another run has put there meanwhile is the same: its key says so."""
        try:
            os.replace(folder, place)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            if self.read(place.name) is not None:
                return
            with self.partial() as aside:  # what lies there is not whole; in one step, since others may read it
                os.replace(place, aside / place.name)
                os.replace(folder, place)

    @contextlib.contextmanager
    def partial(self) -> Iterator[Path]:
        """A fresh folder for a trace in the making; gone afterwards unless it was moved to its place."""
        with _kept(self.folder):
            folder = Path(tempfile.mkdtemp(prefix=f"{os.getpid()}-", dir=self.folder / "partial"))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def forget(self, key: str) -> None:
        """Take the trace with this key away."""
        shutil.rmtree(self._place(key), ignore_errors=True)

    def sweep(self) -> None:
        """Remove what a killed run left half-made; what another run is making at this moment stays."""
        for leftover in (self.folder / "partial").iterdir():
            if not is_alive(leftover.name.partition("-")[0]):
                shutil.rmtree(leftover, ignore_errors=True)

    def clear(self) -> None:
        """Forget every trace."""
        shutil.rmtree(self.folder / "traces", ignore_errors=True)
        (self.folder / "traces").mkdir()

    def every(self) -> Iterator[Trace]:
        """All traces that are whole, in the order of their keys."""
        for place in sorted((self.folder / "traces").glob("*/*")):
            if (trace := self.read(place.name)) is not None:
                yield trace

    def note(self, kind: str, key: str) -> dict[str, Any]:
        """The record in KIND/KEY.json; nothing where there is none or it is damaged."""
        try:
            return read_object(self.folder / kind / f"{key}.json")
        except ContractError:
            return {}

    def remember(self, kind: str, key: str, content: dict[str, Any]) -> None:
        """Write KIND/KEY.json in one step."""
        path = self.folder / kind / f"{key}.json"
        with _kept(path):
            write_atomically(path, json.dumps(content))

    def files(self, key: str) -> dict[str, Path]:
        """The files of a trace by their names, its record last, so that a copy in this order is whole or not there."""
        place = self._place(key)
        return {name: place / name for name in FILES if (place / name).is_file()}

    def _place(self, key: str) -> Path:
        return self.folder / "traces" / key[:2] / key


@contextlib.contextmanager
def _kept(place: Path) -> Iterator[None]:
    """What the disk refuses here is refused to every job, and raises StoreFailed."""
    try:
        with environment_errors(place):
            yield
    except EnvironmentFailed as error:
        raise StoreFailed(error.text, where=error.where, remedy=error.remedy) from None


def _alone(kept: Path) -> None:
    """Nothing else that an engine put there comes into the store."""
    for entry in kept.parent.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        elif entry != kept:
            entry.unlink()


def is_alive(process: str) -> bool:
    """Whether a process of this number runs here."""
    if not process.isdigit():
        return False
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
