"""Groups on the nodes of a Ray cluster: who runs what, again elsewhere where one was lost, and traces back into the store."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from logitproof.errors import EnvironmentFailed, LogitproofError
from logitproof.jobs.adapter import adapter_identity
from logitproof.jobs.cluster.arrivals import Arrivals, source_of, store_url
from logitproof.jobs.cluster.far_end import package_sha256
from logitproof.jobs.cluster.link import Lost, Stopped, connected
from logitproof.jobs.cluster.messages import Answer, Described, Task
from logitproof.jobs.cluster.placing import OFFER, Node, demand, on, options, parted, shortage
from logitproof.jobs.cluster.weights import manifest
from logitproof.jobs.group import Group, Outcome, not_tried
from logitproof.jobs.job import Job, option_files
from logitproof.jobs.pool import Tell
from logitproof.jobs.spec import Spec, spec_key
from logitproof.protocol.messages import HelloResult
from logitproof.traces.store import TraceStore
from logitproof.traces.trace import Failure

RETRIES = 3
"""Times that jobs are begun again elsewhere because the machine that ran them was lost."""
THREADS = 256
"""Tasks that are followed at a time; each costs a thread that waits."""
DESCRIBED_IN = 120.0
"""Seconds that a node has to say what it is, the start of its first worker included."""
LOST = "the machines that ran it were lost"
MEND = "look at the nodes and at Ray's logs there, then run it again: what was measured is kept"


class Unfit(Exception):
    """A node may not run this, and another may; `error` is what the engine said there, if it was asked."""

    def __init__(self, text: str, error: LogitproofError | None = None) -> None:
        super().__init__(text)
        self.error = error


class Unplaceable(Exception):
    """No node can run this."""


@dataclass
class Place:
    """Where one specification runs: what its engine said of itself, and the nodes that are alike."""

    hello: HelloResult
    nodes: set[str]


class RayCluster:
    """An `Executor` on a Ray cluster that this machine is a node of; use as a context manager.

    Raises ContractError where ray is missing or the address is none, EnvironmentFailed where no cluster answers there.
    """

    def __init__(self, address: str, *, retries: int = RETRIES) -> None:
        self.address, self.retries = address, retries
        self.moved = 0
        """bytes of weights that nodes fetched"""
        self.lost: list[str] = []
        """the names of machines that were lost while they ran a task, and why"""
        self._pool = ThreadPoolExecutor(THREADS)
        self._lock = threading.Lock()
        self._nodes: dict[str, Node] = {}
        self._places: dict[str, Place] = {}
        self._holders: dict[str, set[str]] = defaultdict(set)
        self._running: Counter[str] = Counter()

    def __enter__(self) -> RayCluster:
        self._link = connected(self.address)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._pool.shutdown(wait=True)  # whoever still waits for Ray must not wait for what is shut down
        self._link.close()

    def hello(self, named: Mapping[str, Spec]) -> dict[str, HelloResult | LogitproofError]:
        """Ask every engine once, on a node of the largest number of nodes that are alike and can run it."""
        self._describe()
        once = {spec_key(spec): (name, spec) for name, spec in reversed(list(named.items()))}
        asked = {key: self._pool.submit(self._hello, name, spec) for key, (name, spec) in once.items()}
        answers: dict[str, HelloResult | LogitproofError] = {}
        for key, future in asked.items():
            try:
                answers[key] = future.result()
            except LogitproofError as error:
                answers[key] = error
        return {name: answers[spec_key(spec)] for name, spec in named.items()}

    def submit(self, group: Group, store: TraceStore, tell: Tell) -> Future[None]:
        """Begin a group, one task a model."""
        whole: Future[None] = Future()
        parts = parted(group)
        left = [len(parts)]

        def ended(part: Future[None]) -> None:
            with self._lock:
                left[0] -= 1
                error = None if part.cancelled() else part.exception()
                if whole.done():
                    return
                if error is not None:
                    whole.set_exception(error)
                elif not left[0]:
                    whole.set_result(None)

        for part in parts:
            self._pool.submit(self._work, part, store, tell).add_done_callback(ended)
        return whole

    def stop(self) -> None:
        """Cancel every task; its far end ends with it, and so do the engines."""
        self._link.stop()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def spell(self, job: Job, stretches: Sequence[Sequence[int]]) -> list[str]:
        """The texts of tokens, by the engine and the model of a job."""
        group = Group("reference", job.spec, (job,))
        task = self._task("spell", group).model_copy(update={"stretches": [list(stretch) for stretch in stretches]})
        try:
            for answer, _ in self._answers(task, group, always=True):
                if answer.texts is not None:
                    return answer.texts
        except (Lost, Unfit, Unplaceable, Stopped) as error:
            raise EnvironmentFailed(f"no node spelled the tokens: {error}", where=self.address) from None
        raise EnvironmentFailed("no node spelled the tokens", where=self.address)

    def _describe(self) -> None:
        """Ask every node what it is. One with another version of this package, or that does not answer, runs nothing."""
        here = package_sha256()
        nodes = self._link.nodes()
        asked = {node.id: self._pool.submit(self._described, node) for node in nodes}
        for node in nodes:
            described = asked[node.id].result()
            if isinstance(described, Described) and described.source == here:
                self._nodes[node.id] = replace(node, described=described)
                for sha256 in described.holds:
                    self._holders[sha256].add(node.id)
            else:
                reason = described if isinstance(described, str) else "has another version of logitproof"
                self._nodes[node.id] = replace(node, name=f"{node.name} ({reason})", resources={})

    def _described(self, node: Node) -> Described | str:
        amounts = {"num_cpus": 0, "label_selector": on([node.id])}
        try:
            for item in self._link.follow(Task(action="describe").model_dump_json(), amounts, within=DESCRIBED_IN):
                answer = Answer.model_validate_json(item)
                if answer.described is not None:
                    return answer.described
                if answer.unfit or answer.fault:
                    return f"does not answer: {answer.unfit or answer.fault}"
        except (Lost, Stopped, ValueError) as error:
            return f"does not answer: {error}"
        return "does not answer"

    def _hello(self, name: str, spec: Spec) -> HelloResult:
        """What an engine says on the first node that can run it; raises EnvironmentFailed where none can."""
        group = Group(name, spec, ())
        able = [node for node in self._nodes.values() if node.described and not node.lacks(demand(spec.needs))]
        alike: dict[str, list[Node]] = defaultdict(list)
        for node in able:
            assert node.described is not None
            alike[node.described.machine.model_dump_json()].append(node)
        reasons: list[str] = []
        errors: list[LogitproofError] = []
        for nodes in sorted(alike.values(), key=lambda nodes: -sum(node.resources.get("CPU", 0) for node in nodes)):
            left = {node.id for node in nodes}
            while left and len(reasons) <= len(able) + self.retries:
                try:
                    hello = self._ask_hello(group, left)
                except (Unfit, Lost) as error:
                    reasons.append(str(error))
                    errors += [error.error] if isinstance(error, Unfit) and error.error else []
                    continue
                except Unplaceable:
                    break
                self._places[spec_key(spec)] = Place(hello, left)
                return hello
        if errors and len(errors) == len(reasons):
            raise errors[0]  # as on one machine: it was asked, and it failed
        reason = "; ".join(reasons) or shortage(self._nodes.values(), demand(spec.needs))
        raise EnvironmentFailed(f"no node of the cluster can run it: {reason}", where=name, remedy=OFFER)

    def _ask_hello(self, group: Group, nodes: set[str]) -> HelloResult:
        """Raises what the engine raised; takes nodes out of `nodes` that may not run it."""
        for answer, _ in self._answers(self._task("hello", group), group, nodes):
            if answer.hello is not None:
                return answer.hello
        raise Lost("it ended without an answer")

    def _work(self, part: Group, store: TraceStore, tell: Tell) -> None:
        """Run a part to its end: what a lost machine leaves is begun again elsewhere, what an engine does is its verdict."""
        left = {job.key: job for job in part.jobs}
        failures: dict[str, Failure] = {}
        lost: list[str] = []
        unfit: list[str] = []
        while left:
            group = replace(part, jobs=tuple(left.values()))
            try:
                for outcome in self._attempt(group, store):
                    if left.pop(outcome.key, None) is not None:
                        if outcome.failure:
                            failures[outcome.key] = outcome.failure
                        tell(outcome)
                if left:
                    raise Lost("it ended before all was answered")
            except Unfit as error:
                unfit.append(str(error))  # the node is out of the place by now
                continue
            except Lost as error:
                lost.append(str(error))
                with self._lock:
                    self.lost.append(str(error))
            except Unplaceable as error:
                reasons = "; ".join([str(error), *unfit, *lost])
                return _fail(left, part.name, f"no node of the cluster can run it: {reasons}", OFFER, tell)
            except Stopped:
                return None
            if len(lost) > self.retries:
                return _fail(left, part.name, f"{LOST}, {len(lost)} times: {'; '.join(lost)}", MEND, tell)
            for job in [job for job in left.values() if job.after in failures]:
                failures[job.key] = not_tried(job, part.name, failures[job.after or ""])
                tell(Outcome(left.pop(job.key).key, failures[job.key]))
        return None

    def _attempt(self, group: Group, store: TraceStore) -> Iterator[Outcome]:
        own = {job.key for job in group.jobs}
        after = {job.after for job in group.jobs if job.after and job.after not in own}
        # one after the other: the rows of all of them together are more files than may be open
        sources = [source_of(trace) for key in sorted(after) if (trace := store.read(key)) is not None]
        task = self._task("run", group).model_copy(update={"sources": sources, "store": store_url(store)})
        arrivals = Arrivals(store, own)
        for answer, pieces in self._answers(task, group):
            if answer.outcome:
                yield arrivals.take(answer, pieces)

    def _answers(
        self, task: Task, group: Group, nodes: set[str] | None = None, *, always: bool = False
    ) -> Iterator[tuple[Answer, Iterator[bytes]]]:
        """Place a task and give its answers, each with the pieces behind it.

        Raises Unplaceable, Unfit of a node that is then out of `nodes`, Lost, and the error that the far end answers with.
        """
        allowed = nodes if nodes is not None else self._allowed(group)
        amounts = demand(group.spec.needs if not group.jobs else group.needs)
        chosen = self._chosen(task, allowed, amounts)
        node = next(iter(chosen)) if len(chosen) == 1 else ""
        self._count(node, 1)
        try:
            selectors = {"label_selector": on(chosen), "fallback_strategy": [{"label_selector": on(allowed)}]}
            items = self._link.follow(
                task.model_dump_json(),
                {**options(amounts), **selectors},
                offered={file.sha256: _path(weights.path, weights.is_folder, file.name)
                         for weights in task.weights for file in weights.files},
                always=always,
                possible=lambda: self._possible(allowed, amounts),
            )  # fmt: skip
            for item in items:
                answer = _read(item)
                if answer.begun:
                    self._count(node, -1)
                    node = answer.begun
                    self._count(node, 1)
                self._noted(answer, node, task)
                if answer.unfit:
                    allowed.discard(node)
                    raise Unfit(f"{self._name(node)}: {answer.unfit}")
                if answer.fault is not None:
                    self._faulted(answer, node, task, allowed)
                yield answer, items  # type: ignore[misc]
        except Lost as error:
            raise Lost(f"{self._name(node)}: {error}") from None
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
            raise Unfit(f"{self._name(node)}: {error.text}", error)
        raise error

    def _noted(self, answer: Answer, node: str, task: Task) -> None:
        """A node that answers has the weights of its task."""
        with self._lock:
            self.moved += answer.fetched
            if not answer.begun and not answer.unfit:
                for weights in task.weights:
                    self._holders[weights.sha256].add(node)

    def _allowed(self, group: Group) -> set[str]:
        """The nodes whose engine said what the keys of these jobs hold."""
        if (place := self._places.get(spec_key(group.spec))) is None:
            if not self._nodes:
                self._describe()
            self._hello(group.name, group.spec)
            place = self._places[spec_key(group.spec)]
        return place.nodes

    def _chosen(self, task: Task, allowed: set[str], amounts: Mapping[str, float]) -> set[str]:
        """One node that holds the weights and has room, else all that may run it."""
        if reason := self._possible(allowed, amounts):
            raise Unplaceable(reason)
        with self._lock:
            holders = set.intersection(*(self._holders[weights.sha256] for weights in task.weights), allowed)
            room = [
                node for node in holders if task.weights and self._running[node] < self._nodes[node].resources.get("CPU", 0)
            ]
        return {min(room, key=lambda node: (self._running[node], node))} if room else allowed

    def _possible(self, allowed: set[str], amounts: Mapping[str, float]) -> str:
        """Why no node that is alive can run it, or nothing."""
        alive = {node.id for node in self._link.nodes()}
        nodes = [self._nodes[node] for node in allowed if node in self._nodes]
        if any(node.id in alive and not node.lacks(amounts) for node in nodes):
            return ""
        gone = [f"{node.name} is gone" for node in nodes if node.id not in alive]
        return "; ".join(gone) or shortage(nodes or self._nodes.values(), amounts)

    def _task(self, action: Any, group: Group) -> Task:
        place = self._places.get(spec_key(group.spec))
        sha256s = {path: sha for job in group.jobs for path, sha in _models(job) if sha}
        return Task(
            action=action,
            group=group.as_json(),
            source=package_sha256(),
            adapter=adapter_identity(group.spec),
            files=option_files(group.spec),
            hello=place.hello if place and action == "run" else None,
            weights=[manifest(path, sha256) for path, sha256 in sha256s.items()],
            gpus=bool(group.spec.needs.gpus),
        )

    def _name(self, node: str) -> str:
        return self._nodes[node].name if node in self._nodes else "a node"


def _read(item: str | bytes) -> Answer:
    try:
        return Answer.model_validate_json(item)
    except ValidationError:
        raise Lost("it gave an answer that is none") from None


def _models(job: Job) -> Iterator[tuple[Path, str]]:
    yield job.model, job.model_sha256
    if job.config is not None:
        yield job.config, job.config_sha256


def _path(model: str, is_folder: bool, name: str) -> str:
    return str((Path(model) if is_folder else Path(model).parent) / name)


def _fail(left: dict[str, Job], name: str, text: str, remedy: str, tell: Tell) -> None:
    """The same failure of the environment for all that is left."""
    for key in left:
        tell(Outcome(key, Failure(key, name, "environment", text, name, remedy)))
