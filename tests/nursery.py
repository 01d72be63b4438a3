"""Engines of transformers that are born of a process which has imported it: a start takes milliseconds, not four seconds.

For tests of what such engines answer (conftest.py says which). How an engine is started (its environment, its arguments, what
watches it) is tested where nothing stands in between. The process that imports computes nothing, so that no thread of a
library is lost by a fork of it.

    pytestmark = pytest.mark.usefixtures("born")     # in a file of another folder
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest

from logitproof.jobs.environment import environment_of
from logitproof.jobs.process import EngineProcess

IMPORTED = (
    "logitproof.serve",
    "logitproof.engines.transformers",
    "logitproof.reference.model",
    "logitproof.reference.taps",
    *(f"transformers.models.{family}.modeling_{family}" for family in ("llama", "qwen3", "qwen3_moe", "gemma3")),
)
LINK = "LOGITPROOF_NURSERY"
NUMBER = struct.Struct("<i")


class Born:
    """What `subprocess.Popen` is to the process that started it, for one that another has started."""

    def __init__(self, status: int, pipes: tuple[int, int, int]) -> None:
        self._status = status
        self.pid = NUMBER.unpack(os.read(status, NUMBER.size))[0]
        self.stdin: IO[bytes] = os.fdopen(pipes[0], "wb")
        self.stdout: IO[bytes] = os.fdopen(pipes[1], "rb")
        self.stderr: IO[bytes] = os.fdopen(pipes[2], "rb")
        self.returncode: int | None = None

    def poll(self) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            if not select.select([self._status], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("engine", timeout or 0)
            ended = os.read(self._status, NUMBER.size)
            os.close(self._status)
            self.returncode = os.waitstatus_to_exitcode(NUMBER.unpack(ended)[0]) if ended else -signal.SIGKILL
        return self.returncode


class Nursery:
    """The process that has imported what engines need, and forks one on request."""

    def __init__(self) -> None:
        self._link, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        path = os.pathsep.join(filter(None, (str(Path(__file__).parent), os.environ.get("PYTHONPATH", ""))))
        environment = {**os.environ, LINK: str(other.fileno()), "PYTHONPATH": path}
        argv = [sys.executable, "-c", "import nursery; nursery.nurse()"]
        self._process = subprocess.Popen(argv, env=environment, pass_fds=[other.fileno()], stdin=subprocess.DEVNULL)
        other.close()

    def start(self, engine: EngineProcess) -> Any:
        """In the place of `EngineProcess._start`."""
        ends = [os.pipe() for _ in range(4)]
        (stdin, say), (hear, stdout), (told, stderr), (status, tell) = ends
        environment = {**environment_of(engine.spec), "PYTHONUNBUFFERED": "1"}
        words = [engine.spec.engine, json.dumps(engine.spec.options)]
        asked = {"words": words, "environment": environment, "directory": engine.spec.directory or os.getcwd()}
        given = [stdin, stdout, stderr, tell]
        socket.send_fds(self._link, [json.dumps(asked).encode()], given)
        for end in given:
            os.close(end)
        return Born(status, (say, hear, told))

    def close(self) -> None:
        self._link.close()
        # it may still be importing, which takes its time where the machine is busy, and has nothing to finish
        self._process.kill()
        self._process.wait()


def nurse() -> None:
    """Import, then fork an engine for every request, until the other end is closed."""
    link = socket.socket(fileno=int(os.environ.pop(LINK)))
    for name in IMPORTED:
        importlib.import_module(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        request, given, _, _ = socket.recv_fds(link, 1 << 18, 4)
        if not request:
            return
        if os.fork() == 0:
            link.close()
            os._exit(_watch(json.loads(request), given))
        for end in given:
            os.close(end)


def _watch(request: dict[str, Any], given: list[int]) -> int:
    """Fork the engine, tell its number, and how it ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    *pipes, tell = given
    number = os.fork()
    if number == 0:
        os.close(tell)
        os._exit(_live(request, pipes))
    for end in pipes:
        os.close(end)
    os.write(tell, NUMBER.pack(number))
    os.write(tell, NUMBER.pack(os.waitpid(number, 0)[1]))
    return 0


def _live(request: dict[str, Any], pipes: list[int]) -> int:
    from logitproof import serve

    os.setsid()
    for place, end in enumerate(pipes):
        os.dup2(end, place)
        os.close(end)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["directory"])
    sys.stdin = os.fdopen(0, "r", encoding="utf-8")
    return serve.main(request["words"])


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    nursery = Nursery()
    yield nursery
    nursery.close()


@pytest.fixture
def born(nursery: Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    """Engines of transformers are born, all others are started."""
    started = EngineProcess._start

    def start(engine: EngineProcess) -> Any:
        spec = engine.spec
        is_plain = spec.engine == "transformers" and not (engine.python or spec.emulator)
        return nursery.start(engine) if is_plain else started(engine)

    monkeypatch.setattr(EngineProcess, "_start", start)
