"""Traces in a folder by content hash, written atomically.

STORE/traces/ab/abcdef…/{trace.json, logits.bin}      complete, or not there
STORE/partial/…                                       what a killed run left, swept at the next start
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from logitproof.errors import ContractError, EnvironmentFailed
from logitproof.files.atomic import environment_errors
from logitproof.traces.trace import Trace, read_trace


class Store:
    """A folder of traces. `read` gives None for what is not there or not whole."""

    def __init__(self, folder: Path) -> None:
        # Absolute, because a worker runs in the contract's folder.
        self.folder = folder = folder.resolve()
        try:
            (folder / "traces").mkdir(parents=True, exist_ok=True)
            (folder / "partial").mkdir(exist_ok=True)
        except OSError as error:
            raise EnvironmentFailed(
                f"cannot write there: {error.strerror}", where=str(folder), remedy="give another --out"
            ) from None

    def read(self, key: str) -> Trace | None:
        """The trace with this key, its logits memory-mapped."""
        try:
            return read_trace(self._place(key))
        except (ContractError, OSError, ValueError):
            return None

    def write(self, folder: Path, trace: Trace) -> Trace:
        """Make `folder` (from `partial`, holding logits.bin) the trace's place, in one rename."""
        place = self._place(trace.key)
        with environment_errors(place):
            (folder / "trace.json").write_text(json.dumps(trace.record()), "utf-8")
            place.parent.mkdir(parents=True, exist_ok=True)
            if place.exists():
                shutil.rmtree(place)
            os.replace(folder, place)
        read = self.read(trace.key)
        if read is None:
            raise EnvironmentFailed("a trace was written and cannot be read back", where=str(place))
        return read

    @contextlib.contextmanager
    def partial(self) -> Iterator[Path]:
        """A fresh folder for a trace in the making; gone afterwards unless it was moved to its place."""
        with environment_errors(self.folder):
            folder = Path(tempfile.mkdtemp(prefix=f"{os.getpid()}-", dir=self.folder / "partial"))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def sweep(self) -> None:
        """Remove what a killed run left half-made; what another run is making at this moment stays."""
        for leftover in (self.folder / "partial").iterdir():
            if not _is_alive(leftover.name.partition("-")[0]):
                shutil.rmtree(leftover, ignore_errors=True)

    def clear(self) -> None:
        """Forget every trace."""
        shutil.rmtree(self.folder / "traces", ignore_errors=True)
        (self.folder / "traces").mkdir()

    def _place(self, key: str) -> Path:
        return self.folder / "traces" / key[:2] / key


def _is_alive(process: str) -> bool:
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
