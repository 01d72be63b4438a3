"""Groups on the nodes of a Ray cluster: who runs what, again elsewhere where one was lost, and traces back into the store."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from logitproof.errors import ContractError, EnvironmentFailed, LogitproofError
from logitproof.jobs.adapter import adapter_identity
from logitproof.jobs.cluster.arrivals import Arrivals, source_of, store_url
from logitproof.jobs.cluster.far_end import package_sha256
from logitproof.jobs.cluster.link import Lost, Stopped, connected
from logitproof.jobs.cluster.messages import Answer, Task
from logitproof.jobs.cluster.placing import OFFER, Node, demand, parted, shortage
from logitproof.jobs.cluster.tasks import Tasks, Unfit, Unplaceable
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
LOST = "the machines that ran it were lost"
MEND = "look at the nodes and at Ray's logs there, then run it again: what was measured is kept"


@dataclass
class Place:
    """Where one specification runs: what its engine said of itself, and the nodes that are alike."""

    hello: HelloResult
    nodes: set[str]


class RayCluster:
    """An `Executor` on a Ray cluster that this machine is a node of; use as a context manager, for one run after another.

    Raises ContractError where ray is missing or the address is none, EnvironmentFailed where no cluster answers there.
    """

    def __init__(self, address: str, *, retries: int = RETRIES) -> None:
        self.address, self.retries = address, retries
        self.lost: list[str] = []
        """the names of machines that were lost while they ran a task, and why"""
        self._pool = ThreadPoolExecutor(THREADS)
        self._is_stopped = self._is_begun = False
        self._lock = threading.Lock()
        self._places: dict[str, Place] = {}
        self._joined: Tasks | None = None

    def __enter__(self) -> RayCluster:
        self._joined = Tasks(connected(self.address))
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._pool.shutdown(wait=True)  # whoever still waits for Ray must not wait for what is shut down
        self._tasks.close()

    @property
    def moved(self) -> int:
        """Bytes of weights that nodes fetched."""
        return self._tasks.moved

    @property
    def _tasks(self) -> Tasks:
        if self._joined is None:
            remedy = "use it as a context manager: with RayCluster(ADDRESS) as cluster"
            raise ContractError("nobody has joined the cluster", where=self.address, remedy=remedy)
        return self._joined

    def hello(self, named: Mapping[str, Spec]) -> dict[str, HelloResult | LogitproofError]:
        """Ask every engine once, on a node of the largest number of nodes that are alike and can run it: a run begins."""
        self._begin()
        once = {spec_key(spec): (name, spec) for name, spec in reversed(list(named.items()))}
        asked = {key: self._pool.submit(self._hello, name, spec) for key, (name, spec) in once.items()}
        answers: dict[str, HelloResult | LogitproofError] = {}
        for key, future in asked.items():
            try:
                answers[key] = future.result()
            except LogitproofError as error:
                answers[key] = error
        return {name: answers[spec_key(spec)] for name, spec in named.items()}

    def lacks(self, isa: str) -> str:
        """Why no node has an instruction set, or nothing."""
        self._begin()
        return self._tasks.lacks(isa)

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
        self._is_stopped, self._is_begun = True, False
        self._tasks.stop()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _begin(self) -> None:
        """A run begins, the first or another, and every node is asked what it is."""
        if self._is_stopped:
            self._pool.shutdown(wait=True)  # what is left of the run before must have seen that it was stopped
            self._tasks.go_on()
            self._pool, self._is_stopped = ThreadPoolExecutor(THREADS), False
        if not self._is_begun:
            self._tasks.describe(self._pool)
            self._is_begun = True

    def spell(self, job: Job, stretches: Sequence[Sequence[int]]) -> list[str]:
        """The texts of tokens, by the engine and the model of a job."""
        group = Group("reference", job.spec, (job,))
        task = self._task("spell", group).model_copy(update={"stretches": [list(stretch) for stretch in stretches]})
        try:
            answers = [answer.texts for answer, _ in self._answers(task, group, always=True) if answer.texts is not None]
        except (Lost, Unfit, Unplaceable, Stopped) as error:
            raise EnvironmentFailed(f"no node spelled the tokens: {error}", where=self.address) from None
        if not answers:
            raise EnvironmentFailed("no node spelled the tokens", where=self.address)
        return answers[0]

    def _hello(self, name: str, spec: Spec) -> HelloResult:
        """What an engine says on the first node that can run it; raises EnvironmentFailed where none can."""
        group = Group(name, spec, ())
        able = [node for node in self._tasks.nodes.values() if node.described and not node.lacks(demand(spec.needs))]
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
        reason = "; ".join(reasons) or shortage(self._tasks.nodes.values(), demand(spec.needs))
        raise EnvironmentFailed(f"no node of the cluster can run it: {reason}", where=name, remedy=OFFER)

    def _ask_hello(self, group: Group, nodes: set[str]) -> HelloResult:
        """Raises what the engine raised; takes nodes out of `nodes` that may not run it."""
        answers = self._tasks.answers(self._task("hello", group), nodes, demand(group.spec.needs))
        hellos = [answer.hello for answer, _ in answers if answer.hello is not None]
        if not hellos:
            raise Lost("it ended without an answer")
        return hellos[0]

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

    def _answers(self, task: Task, group: Group, *, always: bool = False) -> Iterator[tuple[Answer, Iterator[bytes]]]:
        """A task for this group on the nodes that may run it; raises what `Tasks.answers` raises."""
        amounts = demand(group.needs if group.jobs else group.spec.needs)
        return self._tasks.answers(task, self._allowed(group), amounts, always=always)

    def _allowed(self, group: Group) -> set[str]:
        """The nodes whose engine said what the keys of these jobs hold."""
        if (place := self._places.get(spec_key(group.spec))) is None:
            if not self._tasks.nodes:
                self._tasks.describe(self._pool)
            self._hello(group.name, group.spec)
            place = self._places[spec_key(group.spec)]
        return place.nodes

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


def _models(job: Job) -> Iterator[tuple[Path, str]]:
    yield job.model, job.model_sha256
    if job.config is not None:
        yield job.config, job.config_sha256


def _fail(left: dict[str, Job], name: str, text: str, remedy: str, tell: Tell) -> None:
    """The same failure of the environment for all that is left."""
    for key in left:
        tell(Outcome(key, Failure(key, name, "environment", text, name, remedy)))
