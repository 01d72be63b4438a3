"""An engine kept alive: started when it is first asked, again where it died, loaded where it has not got the weights."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Protocol

from logitproof.contract.suite import Prompt
from logitproof.jobs.cut import ids_of
from logitproof.jobs.spec import Side, Spec
from logitproof.jobs.worker import Worker
from logitproof.protocol.messages import HelloResult, LoadResult


class Session:
    """One engine of one specification. Use as a context manager; every request goes to a living process.

    An engine is asked one thing at a time: whoever shares a session between threads holds its `lock` while asking.
    """

    def __init__(self, spec: Spec, name: str) -> None:
        self.spec, self.name = spec, name
        self.lock = threading.Lock()
        self.ended_badly: list[str] = []
        """how its process ended when it was asked to close, where that was not well"""
        self._worker: Worker | None = None
        self._hello: tuple[Worker, HelloResult] | None = None

    def __enter__(self) -> Session:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    @property
    def alive(self) -> bool:
        """Whether its process runs and can be trusted."""
        return self._worker is not None and self._worker.alive

    def worker(self) -> Worker:
        """The running engine, a fresh one where the last one died. What that one had loaded is gone with it."""
        if self._worker is None or not self._worker.alive:
            self.close()
            self._worker = Worker(self.spec, name=self.name)
        return self._worker

    def hello(self) -> HelloResult:
        """What the engine says of itself, asked once a process."""
        worker = self.worker()
        if self._hello is None or self._hello[0] is not worker:
            self._hello = (worker, worker.hello())
        return self._hello[1]

    def loaded(self, model: Path, config: Path | None = None) -> tuple[Worker, LoadResult]:
        """The engine with these weights, and what it said of them; they are loaded only where it has others or none."""
        self.hello()
        worker = self.worker()
        if self.holds(model, config) and worker.loaded:
            return worker, worker.loaded.facts
        return worker, worker.load(model, config)

    def holds(self, model: Path, config: Path | None) -> bool:
        """Whether a living engine has these weights."""
        held = self._worker.loaded if self.alive and self._worker else None
        return held is not None and (held.model, held.config) == (model, config)

    def close(self) -> None:
        """End the engine; it starts again when it is asked."""
        if self._worker is not None and (text := self._worker.close()):
            self.ended_badly.append(text)
        self._worker = None


class Sessions(Protocol):
    """Whoever keeps engines by their specification."""

    def session(self, spec: Spec, name: str) -> Session: ...


def open_side(workers: Sessions, side: Side) -> Worker:
    """A worker of the engine with its weights loaded; raises what they raise. One engine holds one model at a time."""
    return opened(workers, side)[0]


def opened(workers: Sessions, side: Side) -> tuple[Worker, LoadResult]:
    """That worker, and what it said when it had loaded."""
    return workers.session(side.spec, side.name).loaded(side.model, side.config)


def token_ids(worker: Worker, prompts: Sequence[Prompt], spec: Spec) -> list[list[int]]:
    """Token ids of prompts, by the engine's tokenizer, or the one that is named for it, where they are text."""
    return [list(prompt.token_ids or ids_of(prompt.text or "", spec, worker)) for prompt in prompts]
