"""What `jobs/cluster/driver` and `relay` use of Ray, in one process and with threads: one node, and nothing is sent anywhere.

A test lays it where a driver finds it as `ray`.
"""

from __future__ import annotations

import inspect
import queue
import threading
from types import SimpleNamespace
from typing import Any

NODE = "0" * 56
RESOURCES = {"CPU": 2.0, "engine:toy": 1.0, "memory": 1e12}
END = object()


class Items:
    """A task that gives things, as Ray's generator of references does: `next` waits, `get` opens what it gave."""

    def __init__(self, function: Any, arguments: tuple[Any, ...]) -> None:
        self.given: queue.Queue[Any] = queue.Queue(4)
        self.cancelled = threading.Event()
        threading.Thread(target=self._run, args=(function, arguments), daemon=True).start()

    def _run(self, function: Any, arguments: tuple[Any, ...]) -> None:
        try:
            for item in function(*arguments):
                self.given.put((item, None))
                if self.cancelled.is_set():
                    break
        except Exception as error:
            self.given.put((None, error))
        self.given.put(END)

    def __next__(self) -> Any:
        while not self.cancelled.is_set():
            try:
                item = self.given.get(timeout=0.05)
            except queue.Empty:
                continue
            if item is END:
                raise StopIteration
            return item
        raise RuntimeError("TaskCancelledError: it was cancelled")


class Remote:
    """What a task or an actor is made of, whatever resources it is to have."""

    def __init__(self, what: Any) -> None:
        self.what = what

    def options(self, **_: Any) -> Remote:
        return self

    def remote(self, *arguments: Any) -> Any:
        if inspect.isclass(self.what):
            entry = self.what(*arguments)
            names = [name for name, _ in inspect.getmembers(entry, inspect.ismethod) if not name.startswith("_")]
            return SimpleNamespace(**{name: Remote(getattr(entry, name)) for name in names})
        return Items(self.what, arguments) if inspect.isgeneratorfunction(self.what) else (self.what(*arguments), None)


def remote(what: Any) -> Remote:
    return Remote(what)


def get(reference: Any) -> Any:
    value, error = reference
    if error is not None:
        raise error
    return value


def cancel(items: Items, force: bool) -> None:
    """The task ends at the next thing that it gives."""
    items.cancelled.set()


def init(**_: Any) -> None:
    """Nothing has to be joined."""


def shutdown() -> None:
    """Nothing has to be left."""


def nodes() -> list[dict[str, Any]]:
    return [{"NodeID": NODE, "NodeManagerHostname": "here", "Resources": RESOURCES, "Alive": True}]


def get_runtime_context() -> Any:
    return SimpleNamespace(get_node_id=lambda: NODE)
