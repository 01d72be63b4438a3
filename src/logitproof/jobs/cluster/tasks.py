"""Tasks on nodes: who the nodes are, what they hold and run, which of them gets a task, and what it answers."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor
from dataclasses import replace
from pathlib import Path

from pydantic import ValidationError

from logitproof.contract.isa import lacking
from logitproof.errors import EnvironmentFailed, LogitproofError
from logitproof.jobs.cluster.far_end import package_sha256
from logitproof.jobs.cluster.link import Link, Lost, Stopped
from logitproof.jobs.cluster.messages import Answer, Described, Task
from logitproof.jobs.cluster.placing import OFFER, SHARE, Node, on, options, shortage

DESCRIBED_IN = 120.0
"""Seconds that a node has to say what it is, the start of its first worker included."""


class Unfit(Exception):
    """A node may not run this, and another may; `error` is what the engine said there, if it was asked."""

    def __init__(self, text: str, error: LogitproofError | None = None) -> None:
        super().__init__(text)
        self.error = error


class Unplaceable(Exception):
    """No node can run this."""


class Tasks:
    """The nodes of a joined cluster by their id, and what runs there; `moved` are the bytes of weights that they fetched."""

    def __init__(self, link: Link) -> None:
        self.nodes: dict[str, Node] = {}
        self.moved = 0
        self._link = link
        self._lock = threading.Lock()
        self._holders: dict[str, set[str]] = defaultdict(set)
        self._running: Counter[str] = Counter()
        self._left: set[str] = set()
        """nodes that lost a task: the cluster may not know yet that one is dead, so that others come first"""

    def stop(self) -> None:
        """Cancel every task."""
        self._link.stop()

    def go_on(self) -> None:
        """Tasks may begin again."""
        self._link.go_on()

    def close(self) -> None:
        """Leave the cluster."""
        self._link.close()

    def describe(self, pool: Executor) -> None:
        """Ask every node what it is. One with another version of this package, or that does not answer, runs nothing."""
        here = package_sha256()
        nodes = self._link.nodes()
        self.nodes.clear()
        for node, described in zip(nodes, pool.map(self._described, nodes), strict=True):
            if isinstance(described, Described) and described.source == here:
                self.nodes[node.id] = replace(node, described=described)
                for sha256 in described.holds:
                    self._holders[sha256].add(node.id)
            else:
                reason = described if isinstance(described, str) else "has another version of logitproof"
                self.nodes[node.id] = replace(node, name=f"{node.name} ({reason})", resources={})

    def _described(self, node: Node) -> Described | str:
        amounts = {"num_cpus": 0, "label_selector": on([node.id])}
        try:
            items = self._link.follow(Task(action="describe").model_dump_json(), amounts, within=DESCRIBED_IN)
            answers = [_read(item) for item in items]
        except (Lost, Stopped) as error:
            return f"does not answer: {error}"
        described = [answer.described for answer in answers if answer.described is not None]
        faults = [answer.fault.text if answer.fault else answer.unfit for answer in answers if answer.fault or answer.unfit]
        return described[0] if described else f"does not answer: {faults[0]}" if faults else "does not answer"

    def lacks(self, isa: str) -> str:
        """Why no node has an instruction set, or nothing. Nodes that are alike in what they lack say it once."""
        reasons = set()
        for node in self.nodes.values():
            if node.described is None:
                continue
            if node.resources.get(isa, 0.0) >= SHARE:
                return ""
            reasons.add(lacking(isa, node.described.machine) or f"{node.name} has {isa} and does not offer it: {OFFER}")
        return "; ".join(sorted(reasons)) or f"no node says whether it has {isa}"

    def answers(
        self, task: Task, allowed: set[str], amounts: Mapping[str, float], *, always: bool = False
    ) -> Iterator[tuple[Answer, Iterator[bytes]]]:
        """Place a task on one of the nodes `allowed` and give its answers, each with the pieces behind it.

        Raises Unplaceable, Unfit of a node that is then out of `allowed`, Lost, and the error that the far end answers with.
        """
        able = self._able(allowed, amounts)
        node = self._chosen(task, able)
        begun: set[str] = set()
        try:
            selectors = {
                "label_selector": on([node] if node else able),
                "fallback_strategy": [{"label_selector": on(able)}],
            }
            items = self._link.follow(
                task.model_dump_json(),
                {**options(amounts), **selectors},
                offered={file.sha256: _path(weights.path, weights.is_folder, file.name)
                         for weights in task.weights for file in weights.files},
                always=always,
                possible=lambda: self._impossible(begun or able, amounts),
            )  # fmt: skip
            for item in items:
                answer = _read(item)
                if answer.begun:
                    self._count(node, -1)
                    node = answer.begun
                    begun.add(node)
                    self._count(node, 1)
                self._noted(answer, node, task)
                if answer.unfit:
                    allowed.discard(node)
                    raise Unfit(f"{self.name(node)}: {answer.unfit}")
                if answer.fault is not None:
                    self._faulted(answer, node, task, allowed)
                yield answer, items  # type: ignore[misc]
        except Lost as error:
            self._left.add(node)
            raise Lost(f"{self.name(node)}: {error}") from None
        finally:
            self._count(node, -1)

    def _count(self, node: str, tasks: int) -> None:
        with self._lock:
            self._running[node] += tasks

    def _faulted(self, answer: Answer, node: str, task: Task, allowed: set[str]) -> None:
        """An error that ended the far end: of an engine it is the answer, of the machine another may do better."""
        assert answer.fault is not None
        error = answer.fault.as_error()
        if task.action == "run" or isinstance(error, EnvironmentFailed):
            allowed.discard(node)
            raise Unfit(f"{self.name(node)}: {error.text}", error)
        raise error

    def _noted(self, answer: Answer, node: str, task: Task) -> None:
        """A node that answers has the weights of its task."""
        with self._lock:
            self.moved += answer.fetched
            if not answer.begun and not answer.unfit and answer.fault is None:
                for weights in task.weights:
                    self._holders[weights.sha256].add(node)

    def _able(self, allowed: set[str], amounts: Mapping[str, float]) -> set[str]:
        """Those of `allowed` that are alive and have what the task takes; raises Unplaceable where there is none."""
        alive = {node.id for node in self._link.nodes()}
        able = {node for node in allowed & alive & set(self.nodes) if not self.nodes[node].lacks(amounts)}
        if not able:
            raise Unplaceable(self._impossible(allowed, amounts) or "there is none any more")
        return able - self._left or able

    def _chosen(self, task: Task, able: set[str]) -> str:
        """A node that holds the weights and has room, or none where any that is able may run it; the task counts there."""
        with self._lock:
            holders = set.intersection(*(self._holders[weights.sha256] for weights in task.weights), able)
            preferred = holders if task.weights else able if len(able) == 1 else set()
            room = [node for node in preferred if self._running[node] < self.nodes[node].resources.get("CPU", 0)]
            node = min(room, key=lambda node: (self._running[node], node), default="")
            self._running[node] += 1
        return node

    def _impossible(self, allowed: set[str], amounts: Mapping[str, float]) -> str:
        """Why no node that is alive can run it, or nothing."""
        alive = {node.id for node in self._link.nodes()}
        nodes = [self.nodes[node] for node in allowed if node in self.nodes]
        if any(node.id in alive and not node.lacks(amounts) for node in nodes):
            return ""
        gone = [f"{node.name} is gone" for node in nodes if node.id not in alive]
        return "; ".join(gone) or shortage(nodes or self.nodes.values(), amounts)

    def name(self, node: str) -> str:
        """What people call a node."""
        return self.nodes[node].name if node in self.nodes else "a node"


def _read(item: str | bytes) -> Answer:
    try:
        return Answer.model_validate_json(item)
    except ValidationError:
        raise Lost("it gave an answer that is none") from None


def _path(model: str, is_folder: bool, name: str) -> str:
    return str((Path(model) if is_folder else Path(model).parent) / name)
