"""A process that answers lines with lines: its pipes, what it wrote to stderr, and its end.

Nothing here knows what the lines mean. Each pipe is used and closed by one thread, since what an engine started may hold
the other end for ever.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

from logitproof.errors import ContractError
from logitproof.files.last_words import Words
from logitproof.files.system import in_words
from logitproof.jobs import environments
from logitproof.jobs.environment import environment_of
from logitproof.jobs.executed import OBSERVER
from logitproof.jobs.spec import Spec
from logitproof.jobs.watchdog import MARK, WATCHDOG, kill_marked

LINE_LIMIT = 64 * 2**20
"""Bytes an engine may put into one line before it is garbage: a million token ids fit."""
ANSWERS = 8
"""Lines that wait to be asked for; an engine that goes on waits for its pipe."""
GRACE = 1.0
"""Seconds in which the last lines of a dead engine arrive."""


class EngineProcess:
    """The process of one engine. `matched` are the first lines of stderr by the pattern of the spec's proof that they match."""

    def __init__(self, spec: Spec, *, name: str) -> None:
        self.spec, self.name = spec, name
        self.matched: dict[str, str] = {}
        self.python = spec.python or _installed_python(spec.engine)
        self.notes = Path(tempfile.mkdtemp(prefix="logitproof-notes-"), "notes")
        self._requests: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._lines: queue.Queue[bytes | None] = queue.Queue(ANSWERS)
        self._ended = threading.Event()
        self._words = Words()
        self._pending = b""
        WATCHDOG.watch(str(self.notes))
        self._process = self._start()
        self._threads = [self._pump(loop) for loop in (self._write_requests, self._read_answers, self._read_words)]

    @property
    def pid(self) -> int:
        """Its number, which is that of its session too."""
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    @property
    def words(self) -> list[str]:
        """The lines of stderr that count: its first, those with which it gave up, and its last.

        Of an engine that is gone, once all have arrived: `GRACE` is for a child of it that holds the pipe.
        """
        if not self.is_running:
            self._threads[-1].join(GRACE)
        return self._words.kept()

    @property
    def unended(self) -> bytes:
        """What came on its stdout without a newline behind it, as far as it was read."""
        return self._pending

    def say(self, line: bytes) -> None:
        """Send a line; it is written when the engine reads."""
        self._requests.put(line + b"\n")

    def next_line(self, timeout: float) -> bytes | None:
        """The next line, None where the engine is gone; raises queue.Empty after `timeout` seconds."""
        end = time.monotonic() + timeout
        while True:
            gone = not self.is_running
            try:
                return self._lines.get(timeout=min(GRACE, max(end - time.monotonic(), 0.001)))
            except queue.Empty:
                if gone:
                    return None
                if time.monotonic() >= end:
                    raise

    def hang_up(self) -> None:
        """Close the engine's stdin."""
        self._requests.put(None)

    def wait(self, seconds: float) -> int | None:
        """The exit status, negative for a signal; None where it runs on for so many seconds."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(timeout=seconds)
        return None

    def kill(self) -> None:
        """End it with everything that it started."""
        # The whole session, so that a program that the engine started does not outlive it.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        # and what has made a session for itself
        kill_marked({str(self.notes)})
        WATCHDOG.forget(str(self.notes))
        self._ended.set()
        self.hang_up()
        for thread in self._threads:
            thread.join(timeout=GRACE)
        shutil.rmtree(self.notes.parent, ignore_errors=True)

    def _start(self) -> subprocess.Popen[bytes]:
        python = self.python or sys.executable
        argv = [*self.spec.emulator, python, "-m", "logitproof.serve", self.spec.engine, json.dumps(self.spec.options)]
        environment = {**environment_of(self.spec), "PYTHONUNBUFFERED": "1", MARK: str(self.notes)}
        own = _source_alone() if self.python else environment.get("PYTHONPATH", "")
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(OBSERVER), own)))
        try:
            return subprocess.Popen(
                argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment,
                cwd=self.spec.directory,
                start_new_session=True,
            )
        except OSError as error:
            raise ContractError(
                f"cannot start {argv[0]}: {in_words(error)}",
                where=f"{self.name}: python" if self.python else self.name,
                remedy="`python` must name an interpreter with logitproof's engine installed",
            ) from None

    def _pump(self, loop: Callable[[], None]) -> threading.Thread:
        thread = threading.Thread(target=loop, daemon=True)
        thread.start()
        return thread

    def _write_requests(self) -> None:
        pipe: IO[bytes] = self._process.stdin  # type: ignore[assignment]
        with contextlib.suppress(OSError), pipe:
            while (request := self._requests.get()) is not None:
                pipe.write(request)
                pipe.flush()

    def _read_answers(self) -> None:
        pipe: IO[bytes] = self._process.stdout  # type: ignore[assignment]
        with pipe:
            # by what comes, not by lines, so that an answer without its newline is seen to be one
            while came := os.read(pipe.fileno(), 1 << 16):
                *lines, rest = (self._pending + came).split(b"\n")
                if len(rest) >= LINE_LIMIT:
                    lines, rest = [*lines, rest], b""
                self._pending = rest
                if not all(self._offer(line + b"\n") for line in lines):
                    return
            if self._pending and not self._offer(self._pending):
                return
        self._offer(None)

    def _offer(self, line: bytes | None) -> bool:
        """Put a line where it is waited for; False once nobody will ask for it."""
        while not self._ended.is_set():
            with contextlib.suppress(queue.Full):
                self._lines.put(line, timeout=0.2)
                return True
        return False

    def _read_words(self) -> None:
        pipe: IO[bytes] = self._process.stderr  # type: ignore[assignment]
        watched = self.spec.proof.watched if self.spec.proof else ()
        with pipe:
            while line := pipe.readline(4096):
                words = line.decode("utf-8", "replace").rstrip()
                self._words.add(words)
                for pattern in watched:
                    if pattern not in self.matched and re.search(pattern, words):
                        self.matched[pattern] = words


def _installed_python(engine: str) -> str | None:
    """The interpreter of the engine's own environment, where `logitproof engines install` has made one."""
    environment = environments.installed(engine)
    return str(environment.python) if environment else None


@functools.cache
def _source_alone() -> str:
    """A folder with this package and nothing beside it: installed, its neighbours would shadow another interpreter's."""
    folder = tempfile.mkdtemp(prefix="logitproof-source-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    Path(folder, "logitproof").symlink_to(Path(__file__).parents[1])
    return folder
