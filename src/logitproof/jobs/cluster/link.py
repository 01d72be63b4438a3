"""The connection to Ray: the only place of this side that imports it. Tasks go out as text, text and bytes come back."""

from __future__ import annotations

import contextlib
import json
import logging
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from logitproof.errors import ContractError, EnvironmentFailed
from logitproof.jobs.cluster.placing import Node, on
from logitproof.jobs.cluster.relay import Library, relay

INSTALL = "pip install 'logitproof[ray]'"
START = "run `ray start --head` on one machine, `ray start --address HOST:PORT` on every other and on this one, and name that"
TICK = 1.0
"""Seconds between two looks at whether a task that waits can still run."""
ANSWERS_IN = 30.0
"""Seconds in which a cluster answers; `ray.init` alone would wait for minutes."""
AHEAD = 4
"""Pieces that a node makes before one is taken."""


class Lost(Exception):
    """A task ended because its machine or its process did."""


class Stopped(Exception):
    """The run was stopped."""


def connected(address: str) -> Link:
    """The cluster at HOST:PORT; raises ContractError or EnvironmentFailed in one sentence."""
    try:
        import ray
    except ImportError as error:
        raise ContractError(f"needs a library that is not installed: {error.name}", where="--ray", remedy=INSTALL) from None
    _refuse_silent(address)
    logging.getLogger("ray").setLevel(logging.CRITICAL)
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL, ignore_reinit_error=True)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        text = f"this machine cannot join the cluster: {next(iter(str(error).splitlines()), type(error).__name__)}"
        raise EnvironmentFailed(text, where=f"--ray {address}", remedy=START) from None
    return Link(ray)


class Link:
    """A joined cluster."""

    def __init__(self, ray: Any) -> None:
        self._ray = ray
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._open: set[Any] = set()
        self._nodes: list[Node] = []
        self._looked = -TICK
        self._relay = ray.remote(relay)
        here = {"label_selector": on([ray.get_runtime_context().get_node_id()])}
        self._library = ray.remote(Library).options(num_cpus=0, max_concurrency=4, **here).remote()

    def nodes(self) -> list[Node]:
        """The nodes that are alive, at most a `TICK` ago."""
        with self._lock:
            if time.monotonic() - self._looked > TICK:
                self._nodes, self._looked = self._alive(), time.monotonic()
            return self._nodes

    def _alive(self) -> list[Node]:
        return [
            Node(node["NodeID"], f"node {node['NodeManagerHostname']} {node['NodeID'][:8]}", node["Resources"])
            for node in self._ray.nodes()
            if node["Alive"]
        ]

    def follow(
        self,
        task: str,
        options: Mapping[str, Any],
        *,
        offered: Mapping[str, str] | None = None,
        always: bool = False,
        within: float | None = None,
        possible: Callable[[], str] = lambda: "",
    ) -> Iterator[Any]:
        """Run a task and give what it gives, as it comes. Raises Lost or, but for what is done `always`, Stopped.

        A task that has nothing new is given up where `possible` says why nothing will come, or `within` so many seconds.
        Whoever has what it asked for reads on to the end: a task that is left before is cancelled, and its process with it.
        """
        if offered:
            self._ray.get(self._library.offer.remote(json.dumps(dict(offered))))
        fixed = {"max_retries": 0, "num_returns": "streaming", "_generator_backpressure_num_objects": AHEAD}
        items = self._relay.options(**fixed, **options).remote(task, self._library)
        with self._lock:
            self._open.add(items)
        ended = False
        end = time.monotonic() + within if within else None
        try:
            while True:
                ready, _ = self._ray.wait([items], timeout=TICK)
                if self._stopped.is_set() and not always:
                    raise Stopped
                if ready:
                    try:
                        yield self._ray.get(next(items))
                    except StopIteration:
                        ended = True
                        return
                elif end is not None and time.monotonic() > end:
                    raise Lost(f"no answer within {within:g} s")
                elif reason := possible():
                    raise Lost(reason)
        except self._ray.exceptions.RayError as error:
            if self._stopped.is_set() and not always:
                raise Stopped from None
            self._looked = -TICK  # who is alive may have changed
            raise Lost(_words(error)) from None
        finally:
            with self._lock:
                self._open.discard(items)
            if not ended:
                self._cancel(items)

    def stop(self) -> None:
        """Cancel what runs; nothing begins any more but what is done always."""
        self._stopped.set()
        with self._lock:
            running = list(self._open)
        for items in running:
            self._cancel(items)

    def go_on(self) -> None:
        """Tasks may begin again."""
        self._stopped.clear()

    def close(self) -> None:
        """Leave the cluster, which ends every process that worked for this run there."""
        self._ray.shutdown()

    def _cancel(self, items: Any) -> None:
        with contextlib.suppress(Exception):  # what has ended cannot be cancelled, and Ray says so in many ways
            self._ray.cancel(items, force=True)


def _refuse_silent(address: str) -> None:
    """Raise where nothing answers there in time, or what answers is no cluster."""
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isdigit() or "/" in address or not 0 < int(port) < 65536:
        text = f"{address!r} is no HOST:PORT of a cluster's head"
        raise ContractError(text, where="--ray", remedy=START)
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
    except OSError as error:
        text = f"nothing answers there: {error.strerror or type(error).__name__}"
        raise EnvironmentFailed(text, where=f"--ray {address}", remedy=START) from None
    argv = [sys.executable, "-m", "ray.scripts.scripts", "health-check", "--address", address]
    try:
        healthy = subprocess.run(argv, capture_output=True, timeout=ANSWERS_IN, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        healthy = False
    if not healthy:
        text = "what answers there is no Ray cluster of this version of Ray"
        raise EnvironmentFailed(text, where=f"--ray {address}", remedy=START)


def _words(error: BaseException) -> str:
    """The first sentence of an error of Ray; its traceback is in Ray's logs."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:300] if lines else 'no more is known'}"
