"""A row of the matrix: its axes, and the pairs of traces that are compared in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from logitproof.contract.contract import Mode
from logitproof.contract.isa import BETWEEN, NATIVE
from logitproof.contract.suite import Prompt

Index = Annotated[int, Field(strict=True, ge=0, lt=2**31)]
NOT_SELECTED = "not selected by --only"
AXES = ("candidate", "model", "quantization", "mode", "isa", "against")


@dataclass(frozen=True)
class Pair:
    """The two jobs whose traces are compared for one prompt, and the candidate's own tokenization."""

    suite: str
    prompt_idx: Index
    prompt: Prompt
    source: str
    reference: str
    candidate: str
    tokenized: str | None


def keys_of(pair: Pair) -> list[str]:
    """The jobs that a pair needs."""
    return [key for key in (pair.source, pair.reference, pair.candidate, pair.tokenized) if key]


@dataclass(frozen=True)
class Cell:
    """One candidate on one model, quantization, mode and ISA: a row of the verdict."""

    candidate: str
    model: str
    quantization: str
    mode: Mode
    isa: str
    reference_name: str
    candidate_name: str
    pairs: tuple[Pair, ...] = ()
    against: str = ""
    """which of several references it is compared with; nothing is the first"""

    def __hash__(self) -> int:
        # Not of the pairs: a prompt of token ids holds a list.
        return hash((self.id, self.reference_name))

    @property
    def id(self) -> str:
        parts = [self.candidate, self.model, self.quantization, self.mode]
        name = "/".join(parts if self.isa == NATIVE else [*parts, self.isa])
        return f"{name}@{self.against}" if self.against else name

    @property
    def is_between(self) -> bool:
        """Whether it compares a candidate with itself on another instruction set."""
        return BETWEEN in self.isa

    @property
    def axes(self) -> dict[str, str]:
        return {axis: getattr(self, axis) for axis in AXES}


@dataclass(frozen=True)
class Unmeasured:
    """A cell that will not be measured, and why."""

    cell: str
    reason: str
