"""Traces that come back from a node: checked, and put into the store of the run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from logitproof.errors import ContractError, EnvironmentFailed
from logitproof.files.atomic import content_key, environment_errors
from logitproof.jobs.cluster.link import Lost
from logitproof.jobs.cluster.messages import Answer, Source
from logitproof.jobs.executed import KIND
from logitproof.jobs.group import Outcome
from logitproof.traces.store import FILES, TraceStore
from logitproof.traces.trace import Trace, read_trace
from logitproof.traces.url_store import UrlStore, shown

DETAILS = ("eos_token_ids",)
"""What a job reads of the details of the trace that it continues."""


def source_of(trace: Trace) -> Source:
    """What a node needs of a trace that its jobs continue."""
    details = {name: trace.details[name] for name in DETAILS if name in trace.details}
    return Source(
        key=trace.key, engine=trace.engine, token_ids=trace.token_ids, new_token_ids=trace.new_token_ids, details=details
    )  # fmt: skip


def store_url(store: TraceStore) -> str:
    """Where nodes put traces themselves; nothing where they are sent back."""
    return store.url if isinstance(store, UrlStore) else ""


class Arrivals:
    """What a task gives for the jobs of `keys`, and for no others."""

    def __init__(self, store: TraceStore, keys: set[str]) -> None:
        self.store, self.keys = store, keys

    def take(self, answer: Answer, pieces: Iterator[str | bytes]) -> Outcome:
        """The outcome of a job, its trace kept; raises Lost where what came is not whole, so that it is made again."""
        try:
            outcome = TypeAdapter(Outcome).validate_json(answer.outcome)
        except ValidationError:
            raise Lost("it gave an outcome that is none") from None
        if outcome.key not in self.keys:
            raise Lost("it gave an outcome of a job that it was not asked for")
        if outcome.failure is not None:
            return outcome
        self._remember(answer)
        if isinstance(self.store, UrlStore):
            if self.store.arrived(outcome.key) is None:
                raise EnvironmentFailed(
                    "a node has put a trace there that cannot be read from here",
                    where=shown(self.store.url),
                    remedy="give a --store that every node and this machine see alike",
                )
            return outcome
        with self.store.partial() as folder:
            self._receive(answer, pieces, folder)
            try:
                trace = read_trace(folder)
            except (ContractError, OSError, ValueError):
                raise Lost("a trace came back damaged") from None
            if trace.key != outcome.key:
                raise Lost("a trace came back under the key of another")
            self.store.write(folder, trace)
        return outcome

    def _receive(self, answer: Answer, pieces: Iterator[str | bytes], folder: Path) -> None:
        for name, size in answer.files.items():
            if name not in FILES:
                raise Lost("it gave a file that no trace has")
            left = size
            with environment_errors(folder), (folder / name).open("wb") as out:
                while left > 0:
                    piece = next(pieces, b"")
                    if not isinstance(piece, bytes) or not 0 < len(piece) <= left:
                        raise Lost("a trace came back cut short")
                    out.write(piece)
                    left -= len(piece)

    def _remember(self, answer: Answer) -> None:
        """What its engine executed, under the name that the record of the trace calls it by."""
        if answer.executed and not self.store.note(KIND, name := content_key(answer.executed)):
            self.store.remember(KIND, name, answer.executed)
