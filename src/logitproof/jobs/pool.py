"""Where groups of jobs run: the interface, and the default, a pool of threads with a process an engine on this machine.

To run groups elsewhere, give `run` or `check` an object with the three methods of `Executor`, and with those of `Speller` and
`Elsewhere` where it can. Its end of a group is `run_group(group, store, session)`; the group travels as JSON, the traces by the
store. `cluster/` is such an executor, on the nodes of a Ray cluster.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol, runtime_checkable

from logitproof.errors import LogitproofError
from logitproof.jobs.group import Group, Outcome, run_group
from logitproof.jobs.job import Job
from logitproof.jobs.spec import Spec, spec_key
from logitproof.jobs.workers import Workers
from logitproof.protocol.messages import HelloResult
from logitproof.traces.store import TraceStore

Tell = Callable[[Outcome], None]


class Executor(Protocol):
    """Whoever starts engines. What `hello` says comes from the machine that will run the group: its key rests on it."""

    def hello(self, named: Mapping[str, Spec]) -> dict[str, HelloResult | LogitproofError]:
        """What every engine says of itself, or the error that it died with."""
        ...

    def submit(self, group: Group, store: TraceStore, tell: Tell) -> Future[None]:
        """Begin a group on a machine that has what `group.needs`; `tell` every outcome before the future ends, from any thread.

        A group is submitted once the traces that it continues are in the store, so that it waits for nothing.
        """
        ...

    def stop(self) -> None:
        """Begin nothing more; what runs may end by itself."""


@runtime_checkable
class Speller(Protocol):
    """An executor that has tokens spelled where it starts engines; of any other they are spelled here."""

    def spell(self, job: Job, stretches: Sequence[Sequence[int]]) -> list[str]:
        """The text of every stretch, by the engine and the model of a job; raises LogitproofError where it cannot be had."""
        ...


@runtime_checkable
class Elsewhere(Protocol):
    """An executor whose machines are others than this one, and may have other instruction sets."""

    def lacks(self, isa: str) -> str:
        """Why none of its machines has an instruction set, or nothing."""
        ...


class LocalPool:
    """Engines in processes of this machine, `parallel` of them at a time.

    With `kept`, a spec's key, every other engine ends after its last job. Groups that need a graphics card take turns.
    """

    def __init__(self, workers: Workers, *, parallel: int = 1, kept: str | None = None) -> None:
        self.workers, self.kept = workers, kept
        self._pool = ThreadPoolExecutor(max_workers=max(parallel, 1))
        self._stopped = threading.Event()
        self._card = threading.Lock()

    def hello(self, named: Mapping[str, Spec]) -> dict[str, HelloResult | LogitproofError]:
        """Ask every engine at the same time."""
        return self.workers.hello(named)

    def submit(self, group: Group, store: TraceStore, tell: Tell) -> Future[None]:
        """Run the group when a thread is free."""
        return self._pool.submit(self._work, group, store, tell)

    def stop(self) -> None:
        """Cancel what has not begun; a group that runs ends after the outcome that it is at."""
        self._stopped.set()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def spell(self, job: Job, stretches: Sequence[Sequence[int]]) -> list[str]:
        """Ask the engine that runs already, or start it."""
        worker, _ = self.workers.session(job.spec, "reference").loaded(job.model, job.config)
        return [worker.detokenize(stretch) for stretch in stretches]

    def _work(self, group: Group, store: TraceStore, tell: Tell) -> None:
        with self._card if group.needs.gpus else contextlib.nullcontext():
            session = self.workers.session(group.spec, group.name)
            # two groups of one specification are parts of one that others had to wait for
            with session.lock, contextlib.closing(run_group(group, store, session)) as outcomes:
                for outcome in outcomes:
                    tell(outcome)
                    if self._stopped.is_set():
                        return
            if self.kept is not None and spec_key(group.spec) != self.kept:
                self.workers.close_one(group.spec)
