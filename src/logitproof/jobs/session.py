"""One side of a comparison: an engine with weights, opened."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from logitproof.contract.suite import Prompt
from logitproof.jobs.worker import Spec, Worker
from logitproof.jobs.workers import Workers
from logitproof.protocol.messages import LoadResult


@dataclass(frozen=True)
class Side:
    """One engine with weights."""

    spec: Spec
    model: Path
    config: Path | None = None
    name: str = "engine"


def open_side(workers: Workers, side: Side) -> Worker:
    """A worker of the engine with its weights loaded; raises what they raise. One engine holds one model at a time."""
    return opened(workers, side)[0]


def opened(workers: Workers, side: Side) -> tuple[Worker, LoadResult]:
    """That worker, and what it said when it had loaded."""
    worker = workers.of(side.spec, side.name)
    worker.hello()
    return worker, worker.load(side.model, side.config)


def token_ids(worker: Worker, prompts: Sequence[Prompt]) -> list[list[int]]:
    """Token ids of prompts, by the engine's tokenizer where they are text."""
    return [list(prompt.token_ids or worker.tokenize(prompt.text or "")) for prompt in prompts]
