"""Runs the jobs of a plan: reads what is in the store, and gives the rest to an executor in groups, sources first."""

from __future__ import annotations

import functools
import queue
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import replace

from logitproof.jobs.executed import stale
from logitproof.jobs.group import Group, Outcome, groups_of, not_tried
from logitproof.jobs.job import Job
from logitproof.jobs.pool import Executor, LocalPool
from logitproof.jobs.workers import Workers
from logitproof.traces.store import TraceStore
from logitproof.traces.trace import Failure, Trace


def run(
    jobs: Iterable[Job],
    store: TraceStore,
    *,
    executor: Executor | None = None,
    names: Mapping[str, str] | None = None,
    on_stale: Callable[[Job, str], None] = lambda job, reason: None,
    on_stored: Callable[[Job], None] = lambda job: None,
) -> Iterator[Trace | Failure]:
    """Run every job, or read its trace if the store has it; one result a job, in the order they end.

    Without an `executor`, engines are started here, one at a time. `names` are the engines' names by their spec's key. A job
    whose `after` failed is a Failure too. Nothing that was measured is lost when the caller stops early; the executor is
    stopped with it. `on_stale` is told of every trace that is there and is measured again, and why; `on_stored` of every one
    that is used as it is.
    """
    if executor is not None:
        yield from _run(list(jobs), store, executor, names or {}, on_stale, on_stored)
        return
    with Workers() as workers:
        yield from _run(list(jobs), store, LocalPool(workers), names or {}, on_stale, on_stored)


def _run(
    jobs: list[Job],
    store: TraceStore,
    executor: Executor,
    names: Mapping[str, str],
    on_stale: Callable[[Job, str], None],
    on_stored: Callable[[Job], None],
) -> Iterator[Trace | Failure]:
    results = _Results(store)
    left = []
    # the traces of one engine name the same files: they are looked at once
    changed = functools.cache(functools.partial(stale, store=store))
    try:
        for job in jobs:
            trace = store.read(job.key)
            if trace is not None and not job.is_kept and (reason := changed(trace.executed, trace.unseen)):
                on_stale(job, reason)
                store.forget(job.key)
                trace = None
            if trace is not None:
                on_stored(job)
                yield trace
            else:
                left.append(job)
        waiting = _Waiting(groups_of(left, names))
        open_keys = {job.key for job in left}
        while open_keys:
            chosen = waiting.runnable(is_idle=results.is_idle)
            ended = [failure for group in chosen for failure in results.submit(group, executor)]
            for result in ended or results.wait():
                open_keys.discard(result.key)
                waiting.ended(result.key)
                yield result
    finally:
        executor.stop()


class _Results:
    """What has ended, and the groups that run."""

    def __init__(self, store: TraceStore) -> None:
        self.store = store
        self._ended: set[str] = set()
        self._failures: dict[str, Failure] = {}
        self._running: dict[Future[None], Group] = {}
        self._news: queue.SimpleQueue[Outcome | Future[None]] = queue.SimpleQueue()

    @property
    def is_idle(self) -> bool:
        """Whether no group runs."""
        return not self._running

    def submit(self, group: Group, executor: Executor) -> list[Failure]:
        """Give a group to the executor, but for the jobs whose source failed: their failures."""
        failed = [
            self._failed(not_tried(job, group.name, self._failures[job.after]))
            for job in group.jobs
            if job.after in self._failures
        ]
        jobs = tuple(job for job in group.jobs if job.after not in self._failures)
        if jobs:
            future = executor.submit(replace(group, jobs=jobs), self.store, self._news.put)
            self._running[future] = replace(group, jobs=jobs)
            future.add_done_callback(self._news.put)
        return failed

    def wait(self) -> list[Trace | Failure]:
        """The next results: one, or those that a group owed when it ended; raises what broke a group."""
        news = self._news.get()
        if isinstance(news, Outcome):
            return [] if news.key in self._ended else [self._result(news)]
        group = self._running.pop(news)
        if (error := news.exception()) is not None:
            raise error
        owed = [job.key for job in group.jobs if job.key not in self._ended]
        text = "its group ended without it"
        return [self._failed(Failure(key, group.name, "environment", text, group.name, "run it again")) for key in owed]

    def _result(self, outcome: Outcome) -> Trace | Failure:
        if outcome.failure is not None:
            return self._failed(outcome.failure)
        self._ended.add(outcome.key)
        trace = self.store.read(outcome.key)
        text = f"the trace {outcome.key[:12]} was made, and is not in the store"
        return trace or self._failed(Failure(outcome.key, "", "environment", text, remedy="run it again"))

    def _failed(self, failure: Failure) -> Failure:
        self._ended.add(failure.key)
        self._failures[failure.key] = failure
        return failure


class _Waiting:
    """Groups that have not begun, each with the keys that it waits for: sources that another group makes."""

    def __init__(self, groups: list[Group]) -> None:
        self._open = {job.key for group in groups for job in group.jobs}
        self._groups = [(group, _sources(group) & self._open) for group in groups]

    def ended(self, key: str) -> None:
        """Nobody waits for this job any more."""
        self._open.discard(key)
        for _, keys in self._groups:
            keys.discard(key)

    def runnable(self, *, is_idle: bool) -> list[Group]:
        """Takes out the groups that wait for nothing. Where nothing runs and all wait, each is parted: first what can run."""
        ready = [group for group, keys in self._groups if not keys]
        if ready or not is_idle:
            self._groups = [(group, keys) for group, keys in self._groups if keys]
            return ready
        parted = [(group, _first_part(group, keys)) for group, keys in self._groups]
        rest = [_without(group, first) for group, first in parted]
        self._groups = [(group, _sources(group) & self._open) for group in rest if group.jobs]
        return [first for _, first in parted if first.jobs]


def _sources(group: Group) -> set[str]:
    return {job.after for job in group.jobs if job.after} - {job.key for job in group.jobs}


def _first_part(group: Group, pending: set[str]) -> Group:
    """The jobs of a group that continue nothing that another group has yet to make."""
    blocked = set(pending)
    jobs = []
    for job in group.jobs:
        if job.after in blocked:
            blocked.add(job.key)
        else:
            jobs.append(job)
    return replace(group, jobs=tuple(jobs))


def _without(group: Group, part: Group) -> Group:
    keys = {job.key for job in part.jobs}
    return replace(group, jobs=tuple(job for job in group.jobs if job.key not in keys))
