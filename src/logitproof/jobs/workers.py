"""Engines that are running, one a specification, started when first asked for."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from logitproof.errors import LogitproofError
from logitproof.jobs.session import Session
from logitproof.jobs.spec import Spec, spec_key
from logitproof.jobs.worker import Worker
from logitproof.protocol.messages import HelloResult

__all__ = ["Workers", "spec_key"]


class Workers:
    """Sessions by spec, started when first needed, closed together.

    They are kept between `hello` and the run, since starting one may mean importing a framework.
    """

    def __init__(self) -> None:
        self.ended_badly: list[tuple[str, str]] = []
        """engines that did not end well when they were asked to, by name, and how"""
        self._sessions: dict[str, Session] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def session(self, spec: Spec, name: str) -> Session:
        """The session of this spec."""
        with self._lock:
            return self._sessions.setdefault(spec_key(spec), Session(spec, name))

    def of(self, spec: Spec, name: str) -> Worker:
        """The worker of this spec; a fresh one if the last one died."""
        return self.session(spec, name).worker()

    def hello(self, named: Mapping[str, Spec]) -> dict[str, HelloResult | LogitproofError]:
        """Ask every engine for its capabilities, at the same time; an engine that cannot say stands as its error."""

        def ask(item: tuple[str, tuple[str, Spec]]) -> tuple[str, HelloResult | LogitproofError]:
            key, (name, spec) = item
            try:
                return key, self.session(spec, name).hello()
            except LogitproofError as error:
                return key, error

        # Engines of one spec share a worker, and a worker is asked one thing at a time.
        once: dict[str, tuple[str, Spec]] = {}
        for name, spec in named.items():
            once.setdefault(spec_key(spec), (name, spec))
        with ThreadPoolExecutor(max_workers=max(len(once), 1)) as pool:
            answers = dict(pool.map(ask, once.items()))
        return {name: answers[spec_key(spec)] for name, spec in named.items()}

    def close_one(self, spec: Spec) -> None:
        """End the engine of this spec: a model that nobody asks any more need not stay in memory."""
        with self._lock:
            session = self._sessions.get(spec_key(spec))
        if session is not None:
            session.close()

    def close(self) -> None:
        with self._lock:
            for session in self._sessions.values():
                session.close()
                self.ended_badly += [(session.name, text) for text in session.ended_badly]
            self._sessions.clear()
