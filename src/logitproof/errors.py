"""Everything that logitproof raises on purpose.

    LogitproofError                 exit 3   never raised itself
    ├── ContractError               exit 2   the contract, the command line or a file they name is wrong
    │   └── ModelError              exit 2   weights are missing, truncated or not what they claim to be
    └── EngineError                 exit 3   an engine failed, so nothing was proven
        ├── EngineDied              exit 3   its process ended in the middle of a request
        ├── EngineTimeout           exit 3   it did not answer in time
        ├── EngineGarbage           exit 3   its answer breaks the protocol, or holds NaN, Inf or a wrong shape
        └── EnvironmentFailed       exit 3   the machine failed: disk full, no permission, a missing library

Every message says what is wrong, where, and the remedy: `text`, `where` and `remedy` are kept apart
so that reports can lay them out, and `str()` joins them.

What is no fault is a value: `Missing` stands where a result would, as a failure does where a trace would. `did_you_mean` is
the end of a message that refuses a name.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass


class LogitproofError(Exception):
    """An error with a place and a remedy; `exit_code` is what the command line returns for it."""

    exit_code = 3

    def __init__(self, text: str, *, where: str = "", remedy: str = "") -> None:
        self.text, self.where, self.remedy = text, where, remedy
        super().__init__(str(self))

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        cure = f"\n  remedy: {self.remedy}" if self.remedy else ""
        return f"{place}{self.text}{cure}"


class ContractError(LogitproofError):
    """The contract, the command line or a file that they name is wrong; `others` are further faults of the same file."""

    exit_code = 2

    def __init__(self, text: str, *, where: str = "", remedy: str = "", others: tuple[ContractError, ...] = ()) -> None:
        self.others = others
        super().__init__(text, where=where, remedy=remedy)

    def __str__(self) -> str:
        return "\n".join([super().__str__(), *map(str, self.others)])


def raise_all(faults: Sequence[ContractError]) -> None:
    """Raise the first fault with the others as its `others`, each once; nothing where there is none."""
    every = {str(fault): fault for error in faults for fault in (error, *error.others)}
    if every:
        first, *others = every.values()
        raise ContractError(first.text, where=first.where, remedy=first.remedy, others=tuple(others))


class ModelError(ContractError):
    """Weights that are missing, truncated, foreign or not what they claim to be."""


class EngineError(LogitproofError):
    """An engine failed; its cell is ENGINE ERROR and the rest of the matrix goes on."""


class EngineDied(EngineError):
    """The engine's process ended in the middle of a request."""


class EngineTimeout(EngineError):
    """The engine did not answer within its time limit and was killed."""


class EngineGarbage(EngineError):
    """The engine answered with something that is not the protocol, not finite or not of the right shape."""


class EnvironmentFailed(EngineError):
    """The machine failed, not the engine: disk full, no permission, a missing library."""


class StoreFailed(EnvironmentFailed):
    """Traces cannot be kept: no failure of the job that it happened to, and nothing goes on."""


class Refusal(Exception):
    """Raised by an engine that will not do what it was asked, because the request or the file is wrong.

    `field` names the option or file; `remedy` says what to do. Anything else that an engine raises is
    the engine's own failure.
    """

    def __init__(self, text: str, *, field: str = "", remedy: str = "") -> None:
        self.text, self.field, self.remedy = text, field, remedy
        super().__init__(text)


@dataclass(frozen=True)
class Missing:
    """Stands where a result would, and says in one sentence why there is none."""

    reason: str


def did_you_mean(wrong: str, known: list[str]) -> str:
    """'; did you mean …?' for the nearest of `known`, or what there is if it is little, or nothing."""
    near = difflib.get_close_matches(wrong, known, n=1, cutoff=0.55)
    if near:
        return f"; did you mean {near[0]!r}?"
    return f"; known: {', '.join(sorted(known))}" if 0 < len(known) <= 24 else ""
