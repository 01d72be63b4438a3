"""No engine outlives its harness, however that ends: a process of its own waits for it and then kills what it started.

Every engine carries a mark in its environment, which its children inherit whatever session or group they make for themselves.
Run as a program it reads marks from stdin, which ends when the harness does; it imports nothing of this package.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time

MARK = "LOGITPROOF_NOTES"
"""The variable that marks an engine's processes: the file of its notes, which no other engine has."""
SWEEPS = 50
"""Times that is looked for processes which were started meanwhile."""


def kill_marked(marks: set[str]) -> int:
    """Kill every process of this user that carries one of these marks; how many there were."""
    killed: set[int] = set()
    for _ in range(SWEEPS):
        processes = _marked(marks)
        for process in processes:
            with contextlib.suppress(OSError):
                os.kill(process, signal.SIGKILL)
        if not processes:
            break
        killed |= processes
        time.sleep(0.01)
    return len(killed)


def _marked(marks: set[str]) -> set[int]:
    wanted = {f"{MARK}={mark}".encode() for mark in marks}
    processes = set()
    with contextlib.suppress(OSError):  # a system without /proc
        for name in os.listdir("/proc"):
            if name.isdigit() and int(name) != os.getpid() and _carries(name, wanted):
                processes.add(int(name))
    return processes


def _carries(process: str, wanted: set[bytes]) -> bool:
    """Whether a process that has not ended carries a mark; a zombie has no environment any more."""
    try:
        with open(f"/proc/{process}/environ", "rb") as file:
            return not wanted.isdisjoint(file.read().split(b"\0"))
    except OSError:
        return False


class Watchdog:
    """The process that waits; started with the first engine, and again where it was killed."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._marks: set[str] = set()
        self._lock = threading.Lock()

    def watch(self, mark: str) -> None:
        """Kill what carries this mark when this process has ended."""
        with self._lock:
            self._marks.add(mark)
            if self._process is None or self._process.poll() is not None:
                self._process = self._started()
                self._tell(*(f"+{known}" for known in sorted(self._marks)))
            else:
                self._tell(f"+{mark}")

    def forget(self, mark: str) -> None:
        """An engine has ended with all that it started."""
        with self._lock:
            self._marks.discard(mark)
            self._tell(f"-{mark}")

    def _started(self) -> subprocess.Popen[bytes]:
        # a session of its own: what ends the harness by its group or its terminal must not end this
        argv = [sys.executable, "-I", "-S", __file__]
        quiet = subprocess.DEVNULL
        return subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=quiet, stderr=quiet, cwd="/", start_new_session=True)

    def _tell(self, *lines: str) -> None:
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.write("".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape"))
                self._process.stdin.flush()


WATCHDOG = Watchdog()
"""That of this process."""


def main() -> None:
    """Collect marks until stdin ends, then kill what carries them."""
    marks: set[str] = set()
    for line in sys.stdin.buffer:
        text = line.decode("utf-8", "surrogateescape").rstrip("\n")
        if text.startswith("+"):
            marks.add(text[1:])
        else:
            marks.discard(text[1:])
    if marks:
        kill_marked(marks)


if __name__ == "__main__":
    main()
