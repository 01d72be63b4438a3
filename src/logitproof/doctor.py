"""What this machine can run: every engine is asked in its own process, so a broken one is only a row."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from typing import Any

from logitproof import catalog
from logitproof.errors import LogitproofError
from logitproof.isa import INSTRUCTION_SETS, lacking
from logitproof.run import Workers
from logitproof.worker import Spec

REMEDIES = {
    "transformers": "pip install 'logitproof[transformers]'",
    "llamacpp": "pip install 'logitproof[llamacpp]' (builds llama.cpp; needs a C++ compiler)",
}


@dataclass(frozen=True)
class EngineState:
    """One engine: what it says of itself, or why it cannot run and the remedy."""

    name: str
    versions: dict[str, str]
    isa: dict[str, str]
    problem: str = ""
    remedy: str = ""


@dataclass(frozen=True)
class Examination:
    """The machine and its engines. `usable`: at least one real engine answers."""

    host: dict[str, Any]
    engines: tuple[EngineState, ...]

    @property
    def usable(self) -> bool:
        return any(not engine.problem for engine in self.engines if engine.name in REMEDIES)

    def as_json(self) -> dict[str, Any]:
        return {"host": self.host, "engines": [engine.__dict__ for engine in self.engines]}

    def as_text(self) -> str:
        lines = [f"{name}: {value}" for name, value in self.host.items()]
        for engine in self.engines:
            lines.append("")
            lines.append(f"{'MISSING' if engine.problem else 'ok':<8}{engine.name}")
            if engine.problem:
                lines += [f"        {engine.problem}", f"        remedy: {engine.remedy}"]
            for name, value in {**engine.versions, **engine.isa}.items():
                lines.append(f"        {name}: {value}")
        return "\n".join(lines)


def examine() -> Examination:
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
            states.append(EngineState(name, answer.versions, answer.isa))
    return Examination(_host(), tuple(states))


def _host() -> dict[str, Any]:
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "instruction_sets": ", ".join(name for name in INSTRUCTION_SETS if not lacking(name)) or "unknown",
    }
