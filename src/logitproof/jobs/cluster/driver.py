"""Whoever joins the cluster: `python -m logitproof.jobs.cluster.driver HOST:PORT`, requests on stdin, replies on stdout.

A process of its own, since Ray ends the process that joined, at once and with exit code 1, where the head or this machine's
node is gone: of `check` that would be the exit code of a verdict. It leaves the cluster when its stdin ends, and with it goes
all that worked for the run.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import IO, Any

from logitproof.errors import EnvironmentFailed, LogitproofError
from logitproof.files.sources import PACKAGE
from logitproof.jobs.cluster.messages import Fault, Member, Reply, Request
from logitproof.jobs.cluster.placing import on
from logitproof.jobs.cluster.relay import Library, relay

START = "run `ray start --head` on one machine, `ray start --address HOST:PORT` on every other and on this one, and name that"
ANSWERS_IN = 30.0
"""Seconds in which a cluster answers; `ray.init` alone would wait for minutes."""
AHEAD = 4
"""Pieces that a node makes before one is taken."""
LEAVING = 20.0
"""Seconds in which a cluster lets go; one whose head is gone never does."""
THREADS = 288
"""More than tasks are followed at a time, so that a question about nodes never waits for one."""


def main() -> None:
    """Join, say which nodes there are, and do what stdin asks for until it ends."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever else prints must not stand between the replies
    address, sys.argv[0] = sys.argv[1], str(PACKAGE)  # Ray lets every worker import from the folder that the script lies in
    try:
        driver = Driver(_joined(address), answers)
    except LogitproofError as error:
        answers.write(Reply(id=0, fault=Fault.of(error)).model_dump_json().encode() + b"\n")
        answers.flush()
        return
    driver.do(Request(id=0, do="nodes"))
    for line in sys.stdin.buffer:
        driver.do(Request.model_validate_json(line))
    driver.leave()


class Driver:
    """A joined cluster; every request is a thread's, so that none waits for another."""

    def __init__(self, ray: Any, answers: IO[bytes]) -> None:
        self._ray, self._answers = ray, answers
        self._pool = ThreadPoolExecutor(THREADS)
        self._lock, self._writing = threading.Lock(), threading.Lock()
        self._items: dict[int, Any] = {}
        self._cancelled: set[int] = set()
        self._relay = ray.remote(relay)
        here = {"label_selector": on([ray.get_runtime_context().get_node_id()])}
        self._library = ray.remote(Library).options(num_cpus=0, max_concurrency=4, **here).remote()

    def do(self, request: Request) -> None:
        """Begin to do it; a cancellation is done at once."""
        if request.do == "cancel":
            with self._lock:
                self._cancelled.add(request.id)
                items = self._items.pop(request.id, None)
            self._cancel(items)
        else:
            self._pool.submit(self._work, request)

    def leave(self) -> None:
        """Leave the cluster, which ends every process that worked for this run there."""
        hurry = threading.Timer(LEAVING, os._exit, (1,))
        hurry.daemon = True
        hurry.start()
        self._ray.shutdown()
        os._exit(0)  # threads may wait for what will never come

    def _work(self, request: Request) -> None:
        does = {"nodes": self._nodes, "begin": self._begin, "next": self._next}[request.do]
        try:
            does(request)
        except Exception as error:  # of whatever kind: nobody must wait for a reply in vain
            self._tell(Reply(id=request.id, lost=_words(error)))

    def _nodes(self, request: Request) -> None:
        nodes = [
            Member(
                id=node["NodeID"], name=f"node {node['NodeManagerHostname']} {node['NodeID'][:8]}", resources=node["Resources"]
            )
            for node in self._ray.nodes()
            if node["Alive"]
        ]
        self._tell(Reply(id=request.id, nodes=nodes))

    def _begin(self, request: Request) -> None:
        """Offer the contents that a task may fetch, and start it."""
        if request.offered:
            self._ray.get(self._library.offer.remote(json.dumps(request.offered)))
        fixed = {"max_retries": 0, "num_returns": "streaming", "_generator_backpressure_num_objects": AHEAD}
        items = self._relay.options(**fixed, **request.options).remote(request.task, self._library)
        with self._lock:
            is_cancelled = request.id in self._cancelled
            if not is_cancelled:
                self._items[request.id] = items
        if is_cancelled:
            self._cancel(items)
        self._tell(Reply(id=request.id))

    def _next(self, request: Request) -> None:
        """The next thing that a task gives, or its end."""
        with self._lock:
            items = self._items.get(request.id)
        if items is None:
            self._tell(Reply(id=request.id, lost="it was cancelled"))
            return
        try:
            item = self._ray.get(next(items))
        except StopIteration:
            with self._lock:
                self._items.pop(request.id, None)
            self._tell(Reply(id=request.id, ended=True))
            return
        if isinstance(item, bytes):
            self._tell(Reply(id=request.id, size=len(item)), item)
        else:
            self._tell(Reply(id=request.id, text=str(item)))

    def _tell(self, reply: Reply, piece: bytes = b"") -> None:
        with self._writing:
            self._answers.write(reply.model_dump_json(exclude_defaults=True).encode() + b"\n" + piece)
            self._answers.flush()

    def _cancel(self, items: Any) -> None:
        if items is not None:
            with contextlib.suppress(Exception):  # what has ended cannot be cancelled, and Ray says so in many ways
                self._ray.cancel(items, force=True)


def _joined(address: str) -> Any:
    """The module ray, joined; raises EnvironmentFailed in one sentence."""
    import ray

    where = f"--ray {address}"
    argv = [sys.executable, "-m", "ray.scripts.scripts", "health-check", "--address", address]
    try:
        healthy = subprocess.run(argv, capture_output=True, timeout=ANSWERS_IN, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        healthy = False
    if not healthy:
        raise EnvironmentFailed("what answers there is no Ray cluster of this version of Ray", where=where, remedy=START)
    logging.getLogger("ray").setLevel(logging.CRITICAL)
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        text = f"this machine cannot join the cluster: {next(iter(str(error).splitlines()), type(error).__name__)}"
        raise EnvironmentFailed(text, where=where, remedy=START) from None
    return ray


def _words(error: BaseException) -> str:
    """The first sentence of an error of Ray; its traceback is in Ray's logs."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:300] if lines else 'no more is known'}"


if __name__ == "__main__":
    main()
