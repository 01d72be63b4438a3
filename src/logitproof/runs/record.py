"""run.json read back: what a run planned and what failed, every field of the type that it was written with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from logitproof.errors import ContractError
from logitproof.files.untrusted import Number, read_object, refusal, validated
from logitproof.files.yaml import contract_of_model, is_model
from logitproof.jobs.cell import Cell, Pair, Unmeasured
from logitproof.preflight import Finding, Setting
from logitproof.traces.trace import Failure

REMEDY = "run `logitproof check` again"


class _Open(BaseModel):
    model_config = ConfigDict(extra="allow")


class _File(_Open):
    sha256: str


class _Pins(_Open):
    models: dict[str, dict[str, _File]]
    suites: dict[str, str]


class _Examined(BaseModel):
    model_config = ConfigDict(extra="forbid")
    candidate: str
    model: str
    quantization: str
    settings: list[Setting]
    findings: list[Finding]
    skipped: list[Finding]
    reason: str = ""
    against: str = ""


class _Preflight(_Open):
    pairs: list[_Examined] = Field([])
    bos: dict[str, Number] = Field({})


class _Engine(_Open):
    engine: str
    options: dict[str, Any]
    environment: list[str]
    versions: dict[str, str] = Field({})
    isa: dict[str, str] = Field({})
    details: dict[str, Any]


class _Facts(_Open):
    """What reporters show of a run's circumstances, as far as they look into it."""

    pins: _Pins
    preflight: _Preflight
    engines: dict[str, _Engine]
    versions: dict[str, str]
    host: dict[str, Any]
    commands: list[str]
    made_at: str
    reference_error: list[dict[str, Any]] = Field([])


class _Run(BaseModel):
    contract: str
    cells: list[Cell]
    yardsticks: list[Cell]
    unmeasured: list[Unmeasured]
    failures: dict[str, Failure]
    words: dict[str, dict[str, str]]
    facts: _Facts
    measured_by: dict[str, str] = Field({})
    dropped: dict[str, dict[str, Any]] = Field({})
    compact: dict[str, str] = Field({})


def read_run(path: Path, version: int) -> dict[str, Any]:
    """The record of a finished run; ContractError that names the field where it is damaged or of another version."""
    if not path.exists():
        remedy = contract_of_model(path.parent) if is_model(path.parent) else "run `logitproof check` first"
        raise ContractError("is no finished run: it has no run.json", where=str(path.parent), remedy=remedy)
    record = read_object(path, remedy=REMEDY)
    if record.get("format") != version:
        text = f"was written in format {record.get('format')!a}, this version reads {version}"
        raise ContractError(text, where=str(path), remedy=REMEDY)
    validated(path, _Run, record, remedy=REMEDY)
    for place, entry, kind in _entries(record):
        if unknown := sorted(set(entry) - {known.name for known in fields(kind)}):
            raise refusal(path, place, f"has the unknown key {unknown[0]!a}", REMEDY)
    return record


def _entries(record: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any], type]]:
    """Every object that a dataclass is made of, and where it stands; pydantic passes over keys that one has not got."""
    for name in ("cells", "yardsticks"):
        for index, cell in enumerate(record[name]):
            yield f"{name}.{index}", cell, Cell
            for number, pair in enumerate(cell["pairs"]):
                yield f"{name}.{index}.pairs.{number}", pair, Pair
    for index, entry in enumerate(record["unmeasured"]):
        yield f"unmeasured.{index}", entry, Unmeasured
    for key, failure in record["failures"].items():
        yield f"failures.{key}", failure, Failure
    for index, pair in enumerate(record["facts"]["preflight"].get("pairs", [])):
        for setting in pair["settings"]:
            yield f"facts.preflight.pairs.{index}.settings", setting, Setting
        for finding in [*pair["findings"], *pair["skipped"]]:
            yield f"facts.preflight.pairs.{index}.findings", finding, Finding
