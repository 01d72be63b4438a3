"""Instruction sets: how an engine is pinned to one, whether this machine has it, and what proves that it was used.

What an engine says of itself is a text under a name: `isa.KEY` (of `hello`, `score` or `generate`), `details.KEY` (of
`load`) or `stderr`. A proof is patterns over these texts; a wish, such as an environment variable, proves nothing.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, field_validator

from logitproof import catalog
from logitproof.contract.typed import STRICT
from logitproof.errors import ContractError
from logitproof.protocol.machine import host_flags, host_machine
from logitproof.protocol.messages import Machine

NATIVE = "native"
BETWEEN = "~"
"""Stands between the two instruction sets of a pair, in the name of its cells."""
STDERR = "stderr"
SOURCES = (STDERR, "isa.", "details.")
INSTRUCTION_SETS = {
    "amx": ("x86_64", "amx_tile"),
    "avx512_bf16": ("x86_64", "avx512_bf16"),
    "avx512": ("x86_64", "avx512f"),
    "avx2": ("x86_64", "avx2"),
    "neon": ("aarch64", "asimd"),
    "sve": ("aarch64", "sve"),
}
"""The machine and the flag of /proc/cpuinfo of each."""
Lacks = Callable[[str], str]
"""Says why no machine that may run an engine has an instruction set, or nothing."""
LONGEST = 300
"""Characters of a text that an error quotes."""


class Pin(BaseModel):
    """How one engine is made to use one instruction set, and what it must say (`evidence`) and may not (`never`)."""

    model_config = STRICT

    environment: dict[str, str] = Field({}, description="variables that limit what its libraries choose")
    options: dict[str, Any] = Field({}, description="options of the engine, such as the file of a backend")
    emulator: list[str] = Field([], description="a program and its arguments that the engine is run under")
    python: str | None = Field(None, description="the interpreter of the emulated machine")
    evidence: dict[str, str] = Field({}, description="patterns by source: stderr, isa.KEY or details.KEY")
    never: dict[str, str] = Field({}, description="patterns of another instruction set, by source")

    @field_validator("evidence", "never")
    @classmethod
    def _can_prove(cls, patterns: dict[str, str]) -> dict[str, str]:
        for source, pattern in patterns.items():
            if not source.startswith(SOURCES) or source.endswith("."):
                raise ValueError(f"{source!r} is no source; write stderr, isa.KEY or details.KEY")
            try:
                vacuous = re.search(pattern, "") is not None
            except re.error as error:
                raise ValueError(f"{pattern!r} is no pattern: {error}") from None
            if vacuous:
                raise ValueError(f"{pattern!r} matches an empty text, so it proves nothing")
        return patterns


@dataclass(frozen=True)
class Proof:
    """Patterns by source that what an engine says must match, and may not."""

    isa: str
    must: tuple[tuple[str, str], ...]
    never: tuple[tuple[str, str], ...] = ()

    @property
    def watched(self) -> tuple[str, ...]:
        """The patterns that lines of stderr are held against."""
        return tuple(pattern for source, pattern in (*self.must, *self.never) if source == STDERR)

    def read(self, texts: Mapping[str, str], lines: Mapping[str, str], where: str) -> dict[str, str]:
        """The evidence, by source; raises ContractError where it lacks or speaks of something else.

        `texts` are what the engine said by source, `lines` the first line of stderr that matched each watched pattern.
        """
        evidence: dict[str, str] = {}
        remedy = "pin it otherwise, or take this instruction set out of the matrix for this candidate"
        for source, pattern in self.must:
            text = lines.get(pattern) if source == STDERR else texts.get(source)
            if text is None:
                what = "no line of its stderr" if source == STDERR else f"it says no {source}, which"
                raise ContractError(
                    f"asked for {self.isa}, no evidence: {what} matches {pattern!r}", where=where, remedy=remedy
                )
            if not re.search(pattern, text):
                said_text = f"{source} is {text[:LONGEST]!r}, which does not match {pattern!r}"
                raise ContractError(f"asked for {self.isa}, dispatched something else: {said_text}", where=where, remedy=remedy)
            evidence[source] = text
        for source, pattern in self.never:
            text = lines.get(pattern) if source == STDERR else texts.get(source)
            if text is not None and (excluded := re.search(pattern, text)):
                said_text = f"{source} is {text[:LONGEST]!r}, with {excluded[0]!r}"
                raise ContractError(f"asked for {self.isa}, dispatched something else: {said_text}", where=where, remedy=remedy)
        return evidence


@dataclass(frozen=True)
class Pinned:
    """An engine's own pin and what the contract adds to it; a contract may ask for more evidence, never for less."""

    environment: dict[str, str]
    options: dict[str, Any]
    emulator: tuple[str, ...]
    python: str | None
    proof: Proof


def pinned(engine: str, added: Pin | None, isa: str) -> Pinned | None:
    """How `engine` is pinned to `isa`; None where neither it nor the contract says how.

    Raises ContractError where nothing would prove it, or the engine cannot be run under an emulator.
    """
    entry = catalog.find("engines", engine)
    own = Pin.model_validate(entry.pins[isa]) if isa in entry.pins else None
    if own is None and added is None:
        return None
    pins = [pin for pin in (own, added) if pin is not None]
    proof = Proof(
        isa,
        tuple(item for pin in pins for item in pin.evidence.items()),
        tuple(item for pin in pins for item in pin.never.items()),
    )
    if not proof.must:
        raise ContractError(f"nothing proves that {engine} uses {isa}", remedy="give `evidence`, a pattern by source")
    options: dict[str, Any] = {}
    environment: dict[str, str] = {}
    for pin in pins:
        options.update(pin.options)
        environment.update(pin.environment)
    emulator = tuple(added.emulator) if added else ()
    if emulator and not entry.pins and "argv" not in entry.option_names:
        raise ContractError(f"{engine} starts programs of its own, which an emulator would not hold")
    return Pinned(environment, options, emulator, added.python if added else None, proof)


def unavailable(pin: Pinned, folder: Path, lacks: Lacks | None = None) -> str:
    """Why this machine cannot run it, or nothing; paths of an emulator are relative to `folder`.

    With `lacks` other machines than this one run it, and that says why none of them has an instruction set.
    """
    if pin.emulator:
        program = pin.emulator[0]
        if shutil.which(program if "/" not in program else str(folder / program)) is None:
            return f"the emulator {program} is not on this machine"
        if pin.python is not None and not (folder / pin.python).exists():
            return f"the emulator's interpreter {pin.python} is not there"
        return ""
    reason = (lacks or lacking)(pin.proof.isa)
    return f"{reason}, and no emulator is named" if reason else ""


def lacking(isa: str, machine: Machine | None = None) -> str:
    """Why the processor of a machine, without one that of this, cannot run an instruction set, or nothing."""
    architecture, flag = INSTRUCTION_SETS[isa]
    own = machine.architecture if machine else host_machine()
    if own != architecture:
        return f"this machine is {own}, {isa} is of {architecture}"
    return (
        ""
        if flag in (machine.flags if machine else host_flags())
        else f"this processor has no {isa} (no {flag} among its flags)"
    )
