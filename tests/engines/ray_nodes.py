"""Two nodes of Ray on this machine, a head and another, each with a cache of its own. They leave no process behind."""

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
    """Use as a context manager. `others` are the nodes beside the head, by id, which may be killed: who asks is at the head."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.others: dict[str, Any] = {}

    def __enter__(self) -> Nodes:
        from ray.cluster_utils import Cluster

        self.cluster = Cluster(
            initialize_head=True, head_node_args=self._node("head", include_log_monitor=False, no_monitor=True)
        )
        self.address: str = self.cluster.address
        self.add("other", resources={"engine:toy": 1})  # and not what the head has, too
        return self

    def __exit__(self, *_: object) -> None:
        import ray

        ray.shutdown()
        self.cluster.shutdown()
        for process in left(str(self.folder)):
            os.kill(process, signal.SIGKILL)

    def add(self, name: str, **amounts: Any) -> str:
        """One node more; its id."""
        node = self.cluster.add_node(**self._node(name, **amounts))
        self.others[node.node_id] = node
        return str(node.node_id)

    def kill(self, node: str) -> None:
        """The node is gone by SIGKILL, and nobody was told."""
        self.cluster.remove_node(self.others.pop(node), allow_graceful=False)

    def _node(self, name: str, **amounts: Any) -> dict[str, Any]:
        return {
            "num_cpus": 1,
            "num_gpus": 0,
            "object_store_memory": STORE,
            "include_dashboard": False,
            "resources": ENGINES,
            "env_vars": {MARK: str(self.folder / name)},
            **amounts,
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


def wait_until(holds: Any, seconds: float = 60.0) -> bool:
    """Whether something comes true in time."""
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(0.2)
    return True
