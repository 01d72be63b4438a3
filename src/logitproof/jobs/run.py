"""Runs the jobs of a plan: the only verb that touches engines."""

from __future__ import annotations

import queue
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np

from logitproof.errors import ContractError, EngineDied, EnvironmentFailed, LogitproofError
from logitproof.jobs.job import Job
from logitproof.jobs.worker import Worker
from logitproof.jobs.workers import Workers, spec_key
from logitproof.protocol.messages import LoadResult, Rows
from logitproof.rows.top import is_top
from logitproof.traces.store import Store
from logitproof.traces.trace import Failure, Trace, open_logits

GIVE_UP = 2
"""Times that an engine may die on one model before its remaining jobs are not tried."""


def run(
    jobs: Iterable[Job],
    store: Store,
    workers: Workers,
    *,
    names: Mapping[str, str] | None = None,
    parallel: int = 1,
    kept: str | None = None,
) -> Iterator[Trace | Failure]:
    """Run every job, or read its trace if the store has it; one result a job, in the order they end.

    Jobs of one engine run in one worker, one after another; `parallel` engines run at a time. A job whose
    `after` failed is a Failure too. Nothing that was measured is lost when the caller stops early.
    With `kept`, a spec's key, every other engine ends after its last job.
    """
    jobs = list(jobs)
    finished = _Finished(store)
    groups: dict[str, list[Job]] = defaultdict(list)
    for job in jobs:
        groups[spec_key(job.spec)].append(job)
    results: queue.Queue[Trace | Failure | BaseException] = queue.Queue()
    stop = threading.Event()

    def work(group: list[Job]) -> None:
        try:
            for result in _run_group(group, store, workers, finished, names or {}, stop):
                finished.add(result)
                results.put(result)
            if kept is not None and spec_key(group[0].spec) != kept:
                workers.close_one(group[0].spec)
        except BaseException as error:
            results.put(error)

    # A group that others wait for goes first, so that with one worker at a time nothing waits for ever.
    needed = {job.after for job in jobs if job.after}
    order = sorted(groups.values(), key=lambda group: not any(job.key in needed for job in group))
    pool = ThreadPoolExecutor(max_workers=max(parallel, 1))
    try:
        for group in order:
            pool.submit(work, group)
        for _ in jobs:
            result = results.get()
            if isinstance(result, BaseException):
                raise result
            yield result
    finally:
        stop.set()
        finished.stop()
        pool.shutdown(wait=False, cancel_futures=True)


class _Finished:
    """Results by key, for jobs that wait for another's tokens."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._results: dict[str, Trace | Failure] = {}
        self._changed = threading.Condition()
        self._stopped = False

    def add(self, result: Trace | Failure) -> None:
        with self._changed:
            self._results[result.key] = result
            self._changed.notify_all()

    def stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def wait_for(self, key: str) -> Trace | Failure:
        with self._changed:
            while key not in self._results and not self._stopped:
                self._changed.wait(timeout=1.0)
            return self._results.get(key) or Failure(key, "", "environment", "the run was interrupted")


def _run_group(
    group: list[Job], store: Store, workers: Workers, finished: _Finished, names: Mapping[str, str], stop: threading.Event
) -> Iterator[Trace | Failure]:
    """All jobs of one engine, model by model. Sorting keeps each model loaded once and sources first."""
    deaths: dict[Path, list[str]] = defaultdict(list)
    loaded: tuple[Worker, Path] | None = None
    facts: LoadResult | None = None
    for job in sorted(group, key=lambda job: (str(job.model), job.after is not None)):
        if stop.is_set():
            return
        name = names.get(spec_key(job.spec), job.spec.engine)
        if (trace := store.read(job.key)) is not None:
            yield trace
            continue
        if len(died := deaths[job.model]) >= GIVE_UP:
            text = f"not tried: it failed {GIVE_UP} times on this model, last with: {died[-1]}"
            yield Failure(job.key, name, "engine", text, name)
            continue
        asked = False
        try:
            token_ids, stop_ids = _tokens(job, finished)
            asked = True
            worker = workers.of(job.spec, name)
            if loaded != (worker, job.model):
                loaded = None
                facts = worker.load(job.model, job.config)
                loaded = (worker, job.model)
            assert facts is not None
            yield _run_job(job, worker, facts, store, token_ids, stop_ids)
        except LogitproofError as error:
            if asked and not isinstance(error, ContractError) and (loaded is None or not loaded[0].alive):
                deaths[job.model].append(error.text)
            yield _failure(job, name, error)


def _tokens(job: Job, finished: _Finished) -> tuple[list[int], list[int]]:
    """Token ids to feed and ids to stop at, from the job's source if it has one."""
    if job.after is None:
        return list(job.prompt.token_ids or []), []
    source = finished.wait_for(job.after)
    if isinstance(source, Failure):
        kind = {"setup": ContractError, "environment": EnvironmentFailed}.get(source.fault, EngineDied)
        raise kind(f"not tried: the reference gave no tokens for this prompt ({source.text})", where=source.where)
    if job.kind == "generate":
        return list(source.token_ids), list(source.details.get("eos_token_ids", []))
    return [*source.token_ids, *source.new_token_ids], []


def _run_job(job: Job, worker: Worker, facts: LoadResult, store: Store, token_ids: list[int], stop_ids: list[int]) -> Trace:
    begin = time.monotonic()
    with store.partial() as folder:
        logits = folder / "logits.bin"
        if not token_ids:
            token_ids = worker.tokenize(job.prompt.text or "")
            if not token_ids and job.kind != "tokenize":
                raise ContractError("the prompt has no tokens", where=f"prompt {job.prompt.id}")
        trace = Trace(
            key=job.key,
            kind=job.kind,
            engine=worker.name,
            mode=job.mode,
            token_ids=token_ids,
            prompt_length=len(token_ids),
            logits=None,  # type: ignore[arg-type]
            vocab_size=facts.vocab_size,
            details={**facts.details, "eos_token_ids": facts.eos_token_ids},
        )
        if job.kind == "tokenize":
            logits.write_bytes(b"")
            trace = replace(trace, logits=open_logits(logits, "float32", [0, 0]))
        elif job.kind == "generate":
            trace = _generate(job, worker, trace, logits, stop_ids or facts.eos_token_ids)
        else:
            _refuse_foreign_tokens(token_ids, facts, worker.name)
            result = worker.score(token_ids, job.mode, logits)  # type: ignore[arg-type]
            trace = replace(trace, logits=_kept(result, logits), isa=result.isa)
        return store.write(folder, replace(trace, seconds=time.monotonic() - begin))


def _generate(job: Job, worker: Worker, trace: Trace, logits: Path, stop_ids: list[int]) -> Trace:
    if job.max_new_tokens == 0:
        logits.write_bytes(b"")
        return replace(trace, logits=open_logits(logits, "float32", [0, 0]), finish="length")
    made = worker.generate(trace.token_ids, job.max_new_tokens, stop_ids, logits)
    if not logits.exists():
        logits.write_bytes(b"")
    new = made.token_ids
    return replace(
        trace,
        new_token_ids=new,
        finish=made.finish,
        logits=_kept(made, logits),
        text=_text(job, worker, new),
        isa=made.isa,
    )


def _kept(result: Rows, logits: Path) -> np.ndarray:
    """What the engine wrote, as the one file that a trace has."""
    rows = result.open()
    if is_top(rows):
        rows.tofile(logits)
        for written in logits.parent.glob(f"{logits.name}.topk_*"):
            written.unlink()
    return rows


def _text(job: Job, worker: Worker, token_ids: list[int]) -> str:
    """The text of a continuation; an engine without a tokenizer continues all the same."""
    if job.prompt.text is None or not worker.hello().tokenize:
        return ""
    return worker.detokenize(token_ids)


def _refuse_foreign_tokens(token_ids: list[int], facts: LoadResult, name: str) -> None:
    if (largest := max(token_ids)) >= facts.vocab_size:
        raise ContractError(
            f"token id {largest} is outside its vocabulary of {facts.vocab_size}",
            where=name,
            remedy="the weights and the reference's tokenizer are not of one model",
        )


def _failure(job: Job, name: str, error: LogitproofError) -> Failure:
    fault = "setup" if isinstance(error, ContractError) else "environment" if isinstance(error, EnvironmentFailed) else "engine"
    return Failure(job.key, name, fault, error.text, error.where, error.remedy)  # type: ignore[arg-type]
