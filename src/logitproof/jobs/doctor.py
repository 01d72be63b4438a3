"""What this machine can run: every engine is asked in its own process, so a broken one is only a row."""

from __future__ import annotations

import os
import platform
from dataclasses import asdict, dataclass, field
from typing import Any

from logitproof import catalog
from logitproof.contract.isa import INSTRUCTION_SETS, lacking, pinned
from logitproof.documents.document import Document
from logitproof.documents.section import Column, Line, Row, Table, Text, Tone, Verdict
from logitproof.errors import LogitproofError
from logitproof.jobs.amx_trap import Trap, llama_spec, spring
from logitproof.jobs.spec import Spec
from logitproof.jobs.workers import Workers
from logitproof.rows.processors import processors

TOLD = {"absent": "ok", "untested": "-", "sprung": "CRASH"}
REMEDIES = {
    "transformers": "pip install 'logitproof[transformers]'",
    "llamacpp": "pip install 'logitproof[llamacpp]' (builds llama.cpp; needs a C++ compiler)",
}


@dataclass(frozen=True)
class EngineState:
    """One engine: what it says of itself, or why it cannot run and the remedy.

    `pins` says of each instruction set how the engine is pinned to it, or why not here.
    """

    name: str
    versions: dict[str, str]
    isa: dict[str, str]
    problem: str = ""
    remedy: str = ""
    pins: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Examination:
    """The machine and its engines. `usable`: at least one real engine answers."""

    host: dict[str, Any]
    engines: tuple[EngineState, ...]
    trap: Trap

    @property
    def usable(self) -> bool:
        return any(not engine.problem for engine in self.engines if engine.name in REMEDIES)

    def as_json(self) -> dict[str, Any]:
        return {"host": self.host, "engines": [engine.__dict__ for engine in self.engines], "amx_trap": asdict(self.trap)}

    def document(self) -> Document:
        """The machine, every engine with what it says of itself or its remedy, and the trap."""
        rows = tuple(_row(engine) for engine in self.engines)
        machine = Text(tuple(Line(f"{name}: {value}") for name, value in self.host.items()))
        tone: Tone = "bad" if self.trap.state == "sprung" else "plain"
        trap = [Line(f"{TOLD[self.trap.state]:<8}llama.cpp's AMX trap: {self.trap.text}", tone)]
        trap += [Line(f"remedy: {self.trap.remedy}", level=1)] if self.trap.remedy else []
        engines = Table((Column("", width=8), Column("engine")), rows)
        return Document("What this machine can run", self.verdict, (machine, engines, Text(tuple(trap))), self.next_command)

    @property
    def verdict(self) -> Verdict:
        real = [engine for engine in self.engines if engine.name in REMEDIES]
        names = ", ".join(engine.name for engine in real if not engine.problem)
        if names:
            return Verdict("USABLE", f"{names} can be run", "good")
        return Verdict("MISSING", "; ".join(f"{engine.name}: {engine.problem}" for engine in real) or "no engine", "bad")

    @property
    def next_command(self) -> str:
        return "logitproof new" if self.usable else "pip install 'logitproof[transformers]'"


def _row(engine: EngineState) -> Row:
    lines = [Line(engine.problem, "bad"), Line(f"remedy: {engine.remedy}")] if engine.problem else []
    lines += [Line(f"{name}: {value}", "quiet") for name, value in {**engine.versions, **engine.isa}.items()]
    lines += [Line(f"on {name}: {how}", "quiet") for name, how in engine.pins.items()]
    return Row(("MISSING" if engine.problem else "ok", engine.name), "bad" if engine.problem else "good", tuple(lines))


def examine(llama: str | None = None) -> Examination:
    """Ask every engine, and try the AMX trap: on the build of llama.cpp at `llama`, else on that of the bindings."""
    return Examination(_host(), ask_engines(), spring(llama_spec(llama)))


def ask_engines() -> tuple[EngineState, ...]:
    """Ask every engine of the catalogue that needs no option for its versions and ISA evidence."""
    askable = [
        name
        for name, entry in catalog.entries("engines").items()
        if all(option.default is not None for option in entry.options)
    ]
    with Workers() as workers:
        answers = workers.hello({name: Spec(name, timeout=120.0) for name in askable})
    states = []
    for name, answer in answers.items():
        if isinstance(answer, LogitproofError):
            states.append(EngineState(name, {}, {}, answer.text.splitlines()[0], REMEDIES.get(name, answer.remedy)))
        else:
            states.append(EngineState(name, answer.versions, answer.isa, pins=_pins(name)))
    return tuple(states)


def _pins(name: str) -> dict[str, str]:
    """By instruction set: the environment and options that choose it, or why this machine cannot run it."""
    pins = {}
    for isa in catalog.find("engines", name).pins:
        pin = pinned(name, None, isa)
        assert pin is not None
        how = {**pin.environment, **pin.options}
        pins[isa] = lacking(isa) or ", ".join(f"{key}={value}" for key, value in how.items())
    return pins


def _host() -> dict[str, Any]:
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cores": processors(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "instruction_sets": ", ".join(name for name in INSTRUCTION_SETS if not lacking(name)) or "unknown",
    }
