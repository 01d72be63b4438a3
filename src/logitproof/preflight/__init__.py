"""Preflight: is this a fair comparison at all? Most recorded divergences were faults of the set-up.

To add a check, put a file here with one subclass of `Check`. `examine` sees what both sides read, before
anything runs; `look` sees the traces of one prompt, before they are judged. Both yield a `Setting` for
everything that was compared or listed, and a `Finding` for everything that makes the comparison unfair.
Files are read, no engine is started, and no framework is imported.

    class Mine(Check):
        "What it looks at."
        codes = {"PF900": "what the code means"}

        def examine(self, setup):
            yield Setting("my setting", "1", "2", "differs")
            yield Finding("PF900", "my setting", "1", "2", file="model.gguf", field="my.key", remedy="make them equal")
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import TypeAdapter

from logitproof.contract.contract import EngineUse
from logitproof.contract.suite import Suite
from logitproof.documents.document import Document
from logitproof.documents.section import Line, Text, Verdict
from logitproof.documents.wording import number_of
from logitproof.gguf.side import Side
from logitproof.jobs.cell import Cell
from logitproof.traces.trace import Trace
from logitproof.weights.model import Model

PER_LENGTH = "rows by the length of the pass"
"""The name of the setting of a model whose prefill, decode and generation are different functions."""
UNKNOWN_HERE = "unknown: nothing here reads it, and it may change logits"
"""The note of a setting that a file has and nothing here knows."""
ROTATED = "rotation of the weights"
"""The setting that says of weights that they are the reference's, turned; a person should read that before any figure."""
Likeness = Literal["same", "differs", "listed", "not compared"]


@dataclass(frozen=True)
class Setting:
    """A row of the comparison contract: one setting as each side has it. `note` says how it was compared, `check` by whom."""

    name: str
    reference: str
    candidate: str
    likeness: Likeness
    note: str = ""
    check: str = ""


@dataclass(frozen=True)
class Finding:
    """Something that makes the comparison unfair: what, both values, where it is written and what to do."""

    code: str
    setting: str
    reference: str
    candidate: str
    file: str
    field: str
    remedy: str
    text: str = ""

    def __str__(self) -> str:
        words = f": {self.text}" if self.text else ""
        return f"{self.code} {self.setting}{words}: reference {self.reference}, candidate {self.candidate}"

    @property
    def where(self) -> str:
        return f"{self.file}: {self.field}" if self.field else self.file


@dataclass(frozen=True)
class Setup:
    """One candidate on one weights file against the reference: everything that both will read.

    `original` is the unquantized model, which the reference reads unless it shares the candidate's file.
    """

    candidate_name: str
    model: str
    quantization: str
    reference_use: EngineUse
    candidate_use: EngineUse
    original: Side
    file: Side
    suites: tuple[Suite, ...]
    models: Mapping[str, Model] = field(default_factory=dict)

    @property
    def shares_file(self) -> bool:
        return self.original.path == self.file.path

    @property
    def is_full_precision(self) -> bool:
        """Whether the label of the weights asks for float32."""
        return promises_float32(self.quantization)


@dataclass(frozen=True)
class Seen:
    """The traces of one prompt in one cell, before they are judged.

    `source` is the reference's greedy continuation, whose tokens all others were scored on.
    """

    mode: str
    quantization: str
    prompt_id: str
    source: Trace | None
    reference: Trace
    candidate: Trace
    bos: int | None = None
    is_intended: bool = False
    """whether the contract says that the reference is narrower than float32 on purpose"""
    others: Mapping[str, Callable[[], np.ndarray]] = field(default_factory=dict)
    """what opens the reference's rows of other prompts of the cell, by `prompt ID`"""
    crosses: bool = False
    """whether these rows depend on the length of the pass that they come from"""

    @property
    def is_full_precision(self) -> bool:
        """Whether the label of the weights asks for float32."""
        return promises_float32(self.quantization)


@dataclass(frozen=True)
class Examined:
    """The comparison contract of one pair: every setting, what is wrong, and what may stand by leave."""

    candidate: str
    model: str
    quantization: str
    settings: tuple[Setting, ...]
    findings: tuple[Finding, ...]
    skipped: tuple[Finding, ...]
    """findings that stand by leave of the contract"""
    reason: str = ""
    """why they may"""
    against: str = ""
    """which of several references; nothing is the first"""


@dataclass(frozen=True)
class Preflight:
    """Every pair that was examined, and the BOS token of every model."""

    pairs: tuple[Examined, ...]
    bos: Mapping[str, int]
    """BOS token by model"""

    def findings(self, cell: Cell) -> tuple[Finding, ...]:
        wanted = (cell.candidate, cell.model, cell.quantization, cell.against)
        pairs = (pair for pair in self.pairs if (pair.candidate, pair.model, pair.quantization, pair.against) == wanted)
        return next((pair.findings for pair in pairs), ())

    def document(self) -> Document:
        """How many settings agree, and every finding."""
        pair_findings = [(pair, finding) for pair in self.pairs for finding in pair.findings]
        settings = sum(row.likeness == "same" for pair in self.pairs for row in pair.settings)
        same = f"{number_of(len(self.pairs), 'pair')}, {number_of(settings, 'setting')} the same"
        reason = f"{same}, {number_of(len(pair_findings), 'finding')}"
        lines = tuple(
            Line(f"{pair.candidate}/{pair.model}/{pair.quantization}: {finding}", "bad", 1) for pair, finding in pair_findings
        )
        lines += tuple(
            Line(f"{pair.candidate}/{pair.model}/{pair.quantization}: unknown here: {named(names, 6)}", "unsure", 1)
            for pair in self.pairs
            if (names := [row.name for row in pair.settings if row.note == UNKNOWN_HERE])
        )
        passes = [(pair, row) for pair in self.pairs for row in pair.settings if row.name == PER_LENGTH]
        by_model = {pair.model: Line(f"{pair.model}: {row.reference}; {row.note}", "unsure", 1) for pair, row in passes}
        lines += tuple(by_model.values())
        rotations = tuple(
            Line(f"{pair.candidate}/{pair.model}/{pair.quantization}: {row.note}", "unsure", 1)
            for pair in self.pairs
            for row in pair.settings
            if row.name == ROTATED
        )
        title = "Do both sides read the same files and settings?"
        sections = (Text((*rotations, *lines)),) if rotations or lines else ()
        return Document(title, Verdict("preflight", reason, "bad" if pair_findings else "good"), sections)

    def as_json(self) -> dict[str, Any]:
        """The record that `read` understands."""
        record: dict[str, Any] = TypeAdapter(Preflight).dump_python(self, mode="json")
        return record

    @classmethod
    def read(cls, record: Mapping[str, Any]) -> Preflight:
        """What `as_json` wrote, as a run folder keeps it; of an empty record, that nothing was examined."""
        return TypeAdapter(Preflight).validate_python({"pairs": (), "bos": {}, **record})


class Check:
    """One thing to compare before any logits are judged."""

    codes: ClassVar[Mapping[str, str]] = {}

    def examine(self, setup: Setup) -> Iterator[Setting | Finding]:
        """Compare what both sides will read."""
        yield from ()

    def look(self, seen: Seen) -> Iterator[Finding]:
        """Look at the traces of one prompt."""
        yield from ()


def promises_float32(label: str) -> bool:
    return label.upper() in ("F32", "FP32", "FLOAT32")


def short(value: object, length: int = 60) -> str:
    """A value as a table shows it."""
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= length else f"{text[: length - 1]}…"


def named(names: Sequence[str], shown: int = 3) -> str:
    """Some names and how many more there are."""
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more


def file_of(path: Path, name: str) -> str:
    """The file that a person would open: inside of a folder the one that is meant."""
    return f"{path.name}/{name}" if path.is_dir() else path.name
