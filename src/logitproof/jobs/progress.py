"""How far a run has come."""

from __future__ import annotations

from dataclasses import dataclass

from logitproof.jobs.job import Job
from logitproof.traces.trace import Failure, Trace


@dataclass(frozen=True)
class Progress:
    """`done` of `total` jobs have ended; `job` is the last of them and `result` what it gave."""

    done: int
    total: int
    job: Job
    result: Trace | Failure
    is_stored: bool = False
    """whether an earlier run had measured it"""
