"""How an engine is started, and on what weights: plain data, the same on every machine."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from logitproof.contract.isa import Proof
from logitproof.jobs.needs import Needs


@dataclass(frozen=True)
class Spec:
    """How to start an engine: its catalogue name, options, environment, interpreter, emulator and time limit.

    With a `proof`, rows count only where the engine's own words prove the instruction set that they were computed with.
    `needs` say which machine can run it. `timeout` is for a sign of life, `deadline` for one answer in all, both in seconds;
    `inherit` are variables of the harness that it gets beside those that every engine gets. `tokenizer` is the folder or GGUF
    file, relative to the directory, by which texts are cut for an engine that has no tokenizer.
    """

    engine: str
    options: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    python: str | None = None
    timeout: float = 600.0
    directory: str | None = None
    emulator: tuple[str, ...] = ()
    proof: Proof | None = None
    needs: Needs = field(default_factory=Needs)
    deadline: float | None = None
    inherit: tuple[str, ...] = ()
    tokenizer: str | None = None

    def identity(self) -> dict[str, Any]:
        """Everything of the spec that can change a logit, for content addressing."""
        return {
            "engine": self.engine,
            "options": self.options,
            "environment": self.environment,
            "python": self.python,
            **({"tokenizer": self.tokenizer} if self.tokenizer else {}),
            **({"emulator": list(self.emulator), "proof": asdict(self.proof)} if self.proof else {}),
        }


def spec_key(spec: Spec) -> str:
    """Specs with the same key share a worker."""
    return json.dumps([spec.identity(), spec.directory], sort_keys=True)


@dataclass(frozen=True)
class Side:
    """An engine with the weights that it is given; `config` is the folder that says what they are, `name` what it is called."""

    spec: Spec
    model: Path
    config: Path | None = None
    name: str = "engine"
