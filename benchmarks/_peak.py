"""Peaks of resident memory by the kernel's own account of each process: VmHWM, which begins anew with every program.

Not `ru_maxrss`: on Linux that begins with the peak of whoever started the process.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from types import TracebackType

INTERVAL = 0.05
"""Seconds between two looks at the processes that were started."""


def own_peak() -> float:
    """The most memory that this process had, in MB."""
    return _peak(os.getpid())


class Peaks:
    """The most memory that this process or any that it started had while the context was open: `largest`, in MB.

    Without `own` it is that of the processes that were started alone.
    """

    def __init__(self, *, own: bool = True) -> None:
        self.largest, self._own = 0.0, own
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Peaks:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while True:
            family = _family(os.getpid())[0 if self._own else 1 :]
            self.largest = max([self.largest, *map(_peak, family)])
            if self._ended.wait(INTERVAL):
                return


def _peak(process: int) -> float:
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1e3 for line in lines if line.startswith("VmHWM")), 0.0)


def _family(process: int) -> list[int]:
    """A process and all that came of it."""
    parents: dict[int, int] = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            parents[int(name)] = int(Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    family = [process]
    for ancestor in family:
        family += [child for child, parent in parents.items() if parent == ancestor and child not in family]
    return family
