"""The connection to a cluster: a process that has joined it (`driver`), asked for one thing of a task after the other."""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import queue
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from logitproof.errors import ContractError, EnvironmentFailed
from logitproof.files.system import in_words
from logitproof.jobs.cluster.driver import ANSWERS_IN, START
from logitproof.jobs.cluster.messages import Reply, Request
from logitproof.jobs.cluster.placing import Node

INSTALL = "pip install 'logitproof[ray]'"
AGAIN = "look at the cluster's head and at this machine's node (`ray status`), and run it again: what was measured is kept"
TICK = 1.0
"""Seconds between two looks at whether a task that waits can still run."""
JOINED_IN = 120.0
"""Seconds for the driver to start and to join; whether a cluster answers at all it knows sooner."""
ENDING = 30.0
"""Seconds in which the driver leaves the cluster."""
WORDS = 300
"""Characters of the driver's last line that an error quotes."""


class Lost(Exception):
    """A task ended because its machine or its process did."""


class Stopped(Exception):
    """The run was stopped."""


def connected(address: str) -> Link:
    """The cluster at HOST:PORT; raises ContractError or EnvironmentFailed in one sentence."""
    with contextlib.suppress(ValueError):  # a module without a specification is there
        if importlib.util.find_spec("ray") is None:
            raise ContractError("needs a library that is not installed: ray", where="--ray", remedy=INSTALL)
    _refuse_silent(address)
    return Link([sys.executable, "-P", "-m", "logitproof.jobs.cluster.driver", address], f"--ray {address}")


class Link:
    """A joined cluster. `argv` starts whoever joins it, `place` is how the user named it.

    Whatever waits for a driver that has ended raises EnvironmentFailed, and so does joining where it cannot be.
    """

    def __init__(self, argv: Sequence[str], place: str) -> None:
        self.place = place
        self._stopped, self._ended = threading.Event(), threading.Event()
        self._lock, self._writing = threading.Lock(), threading.Lock()
        self._numbers = itertools.count(1)
        self._replies: dict[int, queue.SimpleQueue[Reply | bytes | None]] = {0: queue.SimpleQueue()}
        self._words = tempfile.TemporaryFile()  # noqa: SIM115 - it is open as long as the driver lives
        # a session of its own: an interrupt at the terminal is for whoever asks, which cancels what runs
        self._process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._words, start_new_session=True
        )
        threading.Thread(target=self._read, daemon=True).start()
        try:
            self._nodes, self._looked = self._members(0, JOINED_IN), time.monotonic()
            del self._replies[0]
        except BaseException:
            self.close()
            raise

    def nodes(self) -> list[Node]:
        """The nodes that are alive, at most a `TICK` ago."""
        with self._lock:
            is_old = time.monotonic() - self._looked > TICK
            if is_old:
                self._looked = time.monotonic()
        if is_old:
            number = self._asked(do="nodes")
            try:
                self._nodes = self._members(number, ANSWERS_IN)
            finally:
                self._replies.pop(number, None)
        return self._nodes

    def follow(
        self,
        task: str,
        options: Mapping[str, Any],
        *,
        offered: Mapping[str, str] | None = None,
        always: bool = False,
        within: float | None = None,
        possible: Callable[[], str] = lambda: "",
    ) -> Iterator[str | bytes]:
        """Run a task and give what it gives, as it comes. Raises Lost or, but for what is done `always`, Stopped.

        A task that has nothing new is given up where `possible` says why nothing will come, or `within` so many seconds.
        Whoever has what it asked for reads on to the end: a task that is left before is cancelled, and its process with it.
        """
        end = time.monotonic() + within if within else None

        def look() -> None:
            if self._stopped.is_set() and not always:
                raise Stopped
            if end is not None and time.monotonic() > end:
                raise Lost(f"no answer within {within:g} s")
            if reason := possible():
                raise Lost(reason)

        number, ended = self._asked(do="begin", task=task, options=dict(options), offered=dict(offered or {})), False
        try:
            self._reply(number, look)
            while True:
                self._send(Request(id=number, do="next"))
                item = self._reply(number, look)
                if self._stopped.is_set() and not always:
                    raise Stopped
                if isinstance(item, Reply) and item.ended:
                    ended = True
                    return
                yield item if isinstance(item, bytes) else item.text
        except Lost:
            if self._stopped.is_set() and not always:
                raise Stopped from None
            raise
        finally:
            with self._lock:
                del self._replies[number]
            if not ended:
                self._send(Request(id=number, do="cancel"))

    def stop(self) -> None:
        """Cancel what runs; nothing begins any more but what is done always."""
        self._stopped.set()
        with self._lock:
            running = list(self._replies)
        for number in running:
            self._send(Request(id=number, do="cancel"))

    def go_on(self) -> None:
        """Tasks may begin again."""
        self._stopped.clear()

    def close(self) -> None:
        """Leave the cluster, which ends every process that worked for this run there."""
        with contextlib.suppress(OSError), self._writing:
            self._process.stdin.close()  # type: ignore[union-attr]
        try:
            self._process.wait(ENDING)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._ended.wait(ENDING):
            self._process.stdout.close()  # type: ignore[union-attr]
        self._words.close()

    def _asked(self, **what: Any) -> int:
        """Send a request under a number of its own."""
        number = next(self._numbers)
        with self._lock:
            self._replies[number] = queue.SimpleQueue()
        if self._ended.is_set():
            self._replies[number].put(None)
        self._send(Request(id=number, **what))
        return number

    def _send(self, request: Request) -> None:
        # a driver that is gone is told by what waits for its replies
        with contextlib.suppress(OSError, ValueError), self._writing:
            self._process.stdin.write(request.model_dump_json().encode() + b"\n")  # type: ignore[union-attr]
            self._process.stdin.flush()  # type: ignore[union-attr]

    def _reply(self, number: int, look: Callable[[], None]) -> Reply | bytes:
        """What comes under a number; `look` is asked every `TICK` that nothing comes. Raises Lost, EnvironmentFailed."""
        while True:
            try:
                reply = self._replies[number].get(timeout=TICK)
            except queue.Empty:
                look()
                continue
            if reply is None:
                raise EnvironmentFailed(f"the connection to the cluster ended: {self._last()}", where=self.place, remedy=AGAIN)
            if isinstance(reply, Reply) and reply.fault is not None:
                raise reply.fault.as_error()
            if isinstance(reply, Reply) and reply.lost:
                self._looked = -TICK  # who is alive may have changed
                raise Lost(reply.lost)
            return reply

    def _members(self, number: int, within: float) -> list[Node]:
        end = time.monotonic() + within

        def look() -> None:
            if time.monotonic() > end:
                raise EnvironmentFailed(f"the cluster does not answer within {within:g} s", where=self.place, remedy=AGAIN)

        try:
            reply = self._reply(number, look)
        except Lost as error:
            raise EnvironmentFailed(f"the cluster does not say its nodes: {error}", where=self.place, remedy=AGAIN) from None
        nodes = reply.nodes if isinstance(reply, Reply) else []
        return [Node(node.id, node.name, node.resources) for node in nodes]

    def _read(self) -> None:
        """Hand every reply to whoever waits for it; when the driver ends, an end to each."""
        pipe = self._process.stdout
        assert pipe is not None
        try:
            while line := pipe.readline():
                reply = Reply.model_validate_json(line)
                item = reply if reply.size is None else pipe.read(reply.size)
                with self._lock:
                    waiting = self._replies.get(reply.id)
                if waiting is not None:
                    waiting.put(item)
        except ValidationError:
            self._process.kill()  # whoever writes what is no reply has lost its place
        finally:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(TICK)
            self._ended.set()
            with self._lock:
                for waiting in self._replies.values():
                    waiting.put(None)

    def _last(self) -> str:
        if self._words.closed:
            return "it was left"
        self._words.seek(0)
        lines = [line.strip() for line in self._words.read().decode("utf-8", "replace").splitlines() if line.strip()]
        return f"exit code {self._process.poll()}" + (f", {lines[-1][:WORDS]}" if lines else "")


def _refuse_silent(address: str) -> None:
    """Raise where nothing answers there in time."""
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isdigit() or "/" in address or not 0 < int(port) < 65536:
        text = f"{address!r} is no HOST:PORT of a cluster's head"
        raise ContractError(text, where="--ray", remedy=START)
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
    except OSError as error:
        raise EnvironmentFailed(f"nothing answers there: {in_words(error)}", where=f"--ray {address}", remedy=START) from None
