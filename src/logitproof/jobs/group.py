"""The jobs of one engine, run by whoever holds it: here in a thread, or in another process that sees the same store."""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter

from logitproof.errors import ContractError, EnvironmentFailed, LogitproofError, StoreFailed
from logitproof.jobs.cut import ids_of, refuse_foreign_ids, text_of
from logitproof.jobs.executed import Executed
from logitproof.jobs.job import Job
from logitproof.jobs.needs import Needs, together
from logitproof.jobs.routing import routed
from logitproof.jobs.session import Session
from logitproof.jobs.spec import Spec, spec_key
from logitproof.jobs.worker import Worker
from logitproof.protocol.messages import LoadResult, Rows, ScoreResult
from logitproof.rows.top import is_top
from logitproof.traces.store import TraceStore
from logitproof.traces.trace import LOGITS, Failure, Trace, open_logits
from logitproof.weights.model import files_of, weights_sha256

ANSWER = "answer.bin"
"""The file that an engine is asked to write; `LOGITS` is what is kept of it."""
GIVE_UP = 2
"""Times that an engine may die on one model before its remaining jobs are not tried."""


@dataclass(frozen=True)
class Group:
    """Jobs of one specification, in the order to run them: each model is loaded once, sources come first.

    `name` is what the engine is called in failures and traces. A group is plain data: `as_json` and `read` carry it to
    another process, where models and the spec's directory must lie at the same paths.
    """

    name: str
    spec: Spec
    jobs: tuple[Job, ...]

    @property
    def needs(self) -> Needs:
        """What a machine must have to run it; its largest model must fit."""
        sizes = [Needs(memory=_bytes_of(model)) for model in {job.model for job in self.jobs}]
        return together([self.spec.needs, *sizes])

    def as_json(self) -> str:
        """The group as JSON."""
        return TypeAdapter(Group).dump_json(self).decode()

    @staticmethod
    def read(text: str) -> Group:
        """The group of a JSON text that `as_json` gave."""
        return TypeAdapter(Group).validate_json(text)


@dataclass(frozen=True)
class Outcome:
    """A job has ended: its trace lies in the store under `key`, or there is a failure in its place."""

    key: str
    failure: Failure | None = None


def groups_of(jobs: Iterable[Job], names: Mapping[str, str]) -> list[Group]:
    """One group a specification; `names` are the engines' names by the spec's key."""
    by_spec: dict[str, list[Job]] = defaultdict(list)
    for job in jobs:
        by_spec[spec_key(job.spec)].append(job)
    return [Group(names.get(key, own[0].spec.engine), own[0].spec, tuple(_ordered(own))) for key, own in by_spec.items()]


def run_group(group: Group, store: TraceStore, session: Session) -> Generator[Outcome, None, None]:
    """Run every job, or find its trace in the store; one outcome a job, in the order they end.

    Where the engine offers `score_many`, neighbours that are scored alike are one request. What a job continues is read from
    the store. A worker that dies is started again; what it had answered is kept.
    """
    running = _Running(group, store, session)
    for stretch in _stretches(group.jobs):
        yield from running.run(stretch)


def not_tried(job: Job, name: str, source: Failure) -> Failure:
    """The failure of a job whose source failed."""
    return Failure(
        job.key, name, source.fault, f"not tried: the reference gave no tokens for this prompt ({source.text})",
        source.where, source.remedy,
    )  # fmt: skip


class _Running:
    """A group that runs: its engine, and what went wrong so far."""

    def __init__(self, group: Group, store: TraceStore, session: Session) -> None:
        self.name, self.store, self.session = group.name, store, session
        self._failures: dict[str, Failure] = {}
        self._deaths: dict[Path, list[LogitproofError]] = defaultdict(list)
        self._seen: Executed | None = None
        self._executed = ""

    def run(self, stretch: list[Job]) -> Iterator[Outcome]:
        """Jobs on one model that may be one request."""
        waiting: dict[str, Job] = {}
        for job in stretch:
            if self.store.read(job.key) is not None:
                yield Outcome(job.key)
            elif job.after in self._failures:
                yield self._failed(job, not_tried(job, self.name, self._failures[job.after]))
            else:
                waiting[job.key] = job
        while waiting:
            first = next(iter(waiting.values()))
            if len(died := self._deaths[first.model]) >= GIVE_UP:
                text = f"not tried: it failed {GIVE_UP} times on this model, last with: {died[-1].text}"
                yield from self._left(waiting, Failure("", self.name, "engine", text, self.name, died[-1].remedy))
                return
            try:
                worker, facts = self.session.loaded(first.model, first.config)
                _refuse_other_weights(first, worker)
            except LogitproofError as error:
                yield self._faulted(waiting.pop(first.key), error)
                continue
            if len(waiting) > 1 and self.session.hello().batch:
                yield from self._many(waiting, worker, facts)
            else:
                yield self._outcome_of(waiting.pop(first.key), worker, facts)

    def _outcome_of(self, job: Job, worker: Worker, facts: LoadResult) -> Outcome:
        try:
            source, begin = self._source(job), time.monotonic()
            with self.store.partial() as folder:
                logits = folder / ANSWER
                trace = _begun(job, worker, facts, _token_ids(job, source, worker, facts))
                if job.kind == "tokenize":
                    trace = _without_rows(trace, logits)
                elif job.kind == "generate":
                    trace = _generated(job, worker, trace, logits, _stops(source, facts))
                else:
                    trace = _scored(trace, worker.score_held(trace.token_ids, job.mode, logits), logits)  # type: ignore[arg-type]
                    trace = routed(trace, worker, self.session.hello(), folder) if job.routing else trace
                self._write(folder, replace(trace, seconds=time.monotonic() - begin), worker)
        except LogitproofError as error:
            return self._faulted(job, error)
        return Outcome(job.key)

    def _many(self, waiting: dict[str, Job], worker: Worker, facts: LoadResult) -> Iterator[Outcome]:
        """Score all of `waiting` by one request, and take out what has ended: all, or what came before the engine failed."""
        with contextlib.ExitStack() as stack:
            asked: list[tuple[Job, Trace, Path]] = []
            for job in list(waiting.values()):
                try:
                    trace = _begun(job, worker, facts, _token_ids(job, self._source(job), worker, facts))
                    asked.append((job, trace, stack.enter_context(self.store.partial())))
                except LogitproofError as error:
                    yield self._faulted(waiting.pop(job.key), error)
            if not asked or not worker.alive:
                return
            sequences = [(trace.token_ids, folder / ANSWER) for _, trace, folder in asked]
            begin = time.monotonic()
            try:
                with contextlib.closing(worker.score_many(sequences, asked[0][0].mode)) as answers:  # type: ignore[arg-type]
                    for index, answer in answers:
                        job, trace, folder = asked[index]
                        del waiting[job.key]
                        seconds, begin = time.monotonic() - begin, time.monotonic()
                        yield self._answered(job, replace(trace, seconds=seconds), answer, folder, worker)
            except StoreFailed:
                raise
            except LogitproofError as error:
                yield from self._request_failed(waiting, error)

    def _source(self, job: Job) -> Trace | None:
        """The trace that it continues, read when its turn comes: those of a whole group are more files than may be open."""
        return self.store.read(job.after) if job.after else None

    def _answered(self, job: Job, trace: Trace, answer: ScoreResult | LogitproofError, folder: Path, worker: Worker) -> Outcome:
        if isinstance(answer, LogitproofError):
            return self._faulted(job, answer)
        try:
            self._write(folder, _scored(trace, answer, folder / ANSWER), worker)
        except LogitproofError as error:
            return self._faulted(job, error)
        return Outcome(job.key)

    def _write(self, folder: Path, trace: Trace, worker: Worker) -> None:
        """Keep a trace, with what its engine executed; never one whose weights changed while it was made."""
        seen = worker.executed()
        worker.refuse_changed_weights()
        if seen is not self._seen:
            self._seen, self._executed = seen, seen.keep(self.store)
        self.store.write(folder, replace(trace, executed=self._executed, unseen=seen.unknown))

    def _request_failed(self, waiting: dict[str, Job], error: LogitproofError) -> Iterator[Outcome]:
        """The first job that a dead engine owed bears the failure and the others are asked again; a refusal fails all."""
        first = next(iter(waiting.values()))
        if self.session.holds(first.model, first.config):
            yield from self._left(waiting, failure_of(first, self.name, error))
        else:
            yield self._faulted(waiting.pop(first.key), error)

    def _left(self, waiting: dict[str, Job], failure: Failure) -> Iterator[Outcome]:
        """The same failure for all that wait."""
        for key in list(waiting):
            yield self._failed(waiting.pop(key), replace(failure, key=key))

    def _faulted(self, job: Job, error: LogitproofError) -> Outcome:
        """The outcome of an error; one that leaves no engine with this model counts towards giving up."""
        if not isinstance(error, ContractError) and not self.session.holds(job.model, job.config):
            self._deaths[job.model].append(error)
        return self._failed(job, failure_of(job, self.name, error))

    def _failed(self, job: Job, failure: Failure) -> Outcome:
        self._failures[job.key] = failure
        return Outcome(job.key, failure)


def _ordered(jobs: Sequence[Job]) -> list[Job]:
    """Model by model, each job behind the one that it continues, also where that one reads other weights: first of all then."""
    models = {job.key: job.model for job in jobs}
    waited = {job.after for job in jobs if job.after in models and models[job.after] != job.model}
    first = {models[key] for key in waited if key is not None}
    return sorted(jobs, key=lambda job: (job.key not in waited, job.model not in first, str(job.model), job.after is not None))


def _stretches(jobs: Iterable[Job]) -> Iterator[list[Job]]:
    """Neighbours that may be one request: scored on one model in one mode. Every other job is alone."""
    stretch: list[Job] = []
    for job in jobs:
        # which experts it chose is asked after each sequence, in a request of its own
        if stretch and (job.routing or not (job.kind == "score" and _alike(job, stretch[-1]))):
            yield stretch
            stretch = []
        stretch.append(job)
    if stretch:
        yield stretch


def _alike(first: Job, second: Job) -> bool:
    return (first.kind, first.mode, first.model, first.config) == (second.kind, second.mode, second.model, second.config)


def _refuse_other_weights(job: Job, worker: Worker) -> None:
    """Refuse weights other than the job's key was made of: they may have been replaced since they were hashed."""
    for path, sha256 in ((job.model, job.model_sha256), (job.config, job.config_sha256)):
        if path is not None and sha256 and weights_sha256(path) != sha256:
            text = "the weights are not those that were hashed when the run began: they were replaced since"
            raise ContractError(text, where=str(path), remedy="let nothing write to the weights during a run, and run it again")
    worker.refuse_changed_weights()


def _token_ids(job: Job, source: Trace | None, worker: Worker, facts: LoadResult) -> list[int]:
    """What to feed: the prompt's own ids, those of its source, or what the engine makes of its text."""
    if job.after is not None:
        if source is None:
            text = "not tried: the trace that it continues is not in the store"
            raise EnvironmentFailed(text, where=f"prompt {job.prompt.id}")
        ids = list(source.token_ids) if job.kind == "generate" else [*source.token_ids, *source.new_token_ids]
    else:
        ids = list(job.prompt.token_ids or []) or ids_of(job.prompt.text or "", job.spec, worker)
    if not ids and job.kind != "tokenize":
        raise ContractError("the prompt has no tokens", where=f"prompt {job.prompt.id}")
    if job.kind == "score" or job.spec.tokenizer:
        refuse_foreign_ids(ids, job.spec, worker.name, facts.vocab_size)
    return ids


def _stops(source: Trace | None, facts: LoadResult) -> list[int]:
    """The ids that a continuation ends at: the source's, which must end both alike."""
    own = source.details.get("eos_token_ids", []) if source is not None else []
    return list(own) or facts.eos_token_ids


def _begun(job: Job, worker: Worker, facts: LoadResult, token_ids: list[int]) -> Trace:
    """The trace of a job that has no rows yet."""
    return Trace(
        key=job.key,
        kind=job.kind,
        engine=worker.name,
        mode=job.mode,
        token_ids=token_ids,
        prompt_length=len(token_ids),
        logits=np.empty((0, 0), np.float32),
        vocab_size=facts.vocab_size,
        details={**facts.details, "eos_token_ids": facts.eos_token_ids},
    )


def _scored(trace: Trace, result: ScoreResult, logits: Path) -> Trace:
    return replace(trace, logits=_kept(result, logits), isa=result.isa, positions=result.held or [])


def _generated(job: Job, worker: Worker, trace: Trace, logits: Path, stop_ids: list[int]) -> Trace:
    if job.max_new_tokens == 0:
        return replace(_without_rows(trace, logits), finish="length")
    made = worker.generate(trace.token_ids, job.max_new_tokens, stop_ids, logits)
    if not (new := made.token_ids):
        return replace(_without_rows(trace, logits), finish=made.finish, isa=made.isa)
    text = _text(job, worker, new)
    return replace(trace, new_token_ids=new, finish=made.finish, logits=_kept(made, logits), text=text, isa=made.isa)


def _without_rows(trace: Trace, logits: Path) -> Trace:
    kept = logits.with_name(LOGITS)
    kept.write_bytes(b"")
    return replace(trace, logits=open_logits(kept, "float32", [0, 0]))


def _kept(result: Rows, logits: Path) -> np.ndarray:
    """The rows, in the one file that a trace has, which is called otherwise than the one that the engine was asked for."""
    rows, kept = result.open(), logits.with_name(LOGITS)
    if is_top(rows):
        rows.tofile(kept)
    else:
        Path(result.logits.path).replace(kept)
    return rows


def _text(job: Job, worker: Worker, token_ids: list[int]) -> str:
    """The text of a continuation; an engine without a tokenizer continues all the same."""
    return "" if job.prompt.text is None else text_of(token_ids, job.spec, worker)


def failure_of(job: Job, name: str, error: LogitproofError) -> Failure:
    """What stands in place of the job's trace; a store that cannot be written is no job's failure, and is raised."""
    if isinstance(error, StoreFailed):
        raise error
    fault = "setup" if isinstance(error, ContractError) else "environment" if isinstance(error, EnvironmentFailed) else "engine"
    return Failure(job.key, name, fault, error.text, error.where, error.remedy)  # type: ignore[arg-type]


def _bytes_of(model: Path) -> int:
    """What weights take on disk; 0 of what is not there."""
    return sum(path.stat().st_size for path in files_of(model) if path.is_file())
