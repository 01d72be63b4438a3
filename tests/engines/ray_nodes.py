"""A cluster on this machine: a head and two nodes that compute, each with a cache of its own. It leaves no process behind."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

STORE = 80 * 2**20
"""Bytes of each node's object store, the least that Ray takes."""
MARK = "LOGITPROOF_NODE_CACHE"
ENGINES = {"engine:toy": 1, "engine:command": 1}


class Nodes:
    """Use as a context manager. `computing` are the nodes that may be killed, by id; the head runs nothing."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.computing: dict[str, Any] = {}

    def __enter__(self) -> Nodes:
        from ray.cluster_utils import Cluster

        self.cluster = Cluster(initialize_head=True, head_node_args=self._node("head", 0))
        self.address: str = self.cluster.address
        for name in ("first", "second"):
            self.add(name)
        return self

    def __exit__(self, *_: object) -> None:
        import ray

        ray.shutdown()
        self.cluster.shutdown()
        for process in left(str(self.folder)):
            os.kill(process, signal.SIGKILL)

    def add(self, name: str) -> None:
        """One node more."""
        node = self.cluster.add_node(**self._node(name, 1))
        self.computing[node.node_id] = node

    def kill(self, node: str) -> None:
        """The node is gone, and nobody was told."""
        self.cluster.remove_node(self.computing.pop(node), allow_graceful=False)

    def _node(self, name: str, cpus: int) -> dict[str, Any]:
        return {
            "num_cpus": cpus,
            "num_gpus": 0,
            "object_store_memory": STORE,
            "include_dashboard": False,
            "resources": ENGINES,
            "env_vars": {MARK: str(self.folder / name)},
        }


def left(text: str, *, named: str = "") -> list[int]:
    """Processes whose environment holds a text, and whose command line another."""
    numbers = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                environment, line = (entry / "environ").read_bytes(), (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if text.encode() in environment and named.encode() in line:
                numbers.append(int(entry.name))
    return numbers


def wait_until(holds: Any, seconds: float = 30.0) -> bool:
    """Whether something comes true in time."""
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(0.2)
    return True
