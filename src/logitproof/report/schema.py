"""JSON Schemas of the files that others write and read; `python -m logitproof.report.schema` writes them again.

contract.schema.json     a contract, for editors that complete and check YAML
suite.schema.json        a suite
verdict.schema.json      verdict.json, for whoever reads it
protocol.schema.json     the messages of the engine protocol
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from logitproof.bands.band import PositionStatus
from logitproof.contract.contract import CellStatus, Contract, Mode, Statistic
from logitproof.contract.suite import Suite
from logitproof.contract.waiver import WaiverStatus
from logitproof.files.atomic import write_atomically
from logitproof.preflight import Likeness
from logitproof.protocol import messages as protocol
from logitproof.verdict.gates import GateStatus
from logitproof.verdict.judge import Status

DRAFT = "https://json-schema.org/draft/2020-12/schema"
FOLDER = Path(__file__).parent / "schemas"


def contract() -> dict[str, Any]:
    """Schema of a contract. Whether its names agree is checked when it is opened, not here."""
    schema = Contract.model_json_schema()
    gate, axes = schema["$defs"]["Gate"], schema["$defs"]["Filter"]["properties"]
    # What the models accept before they look: one value where a list is meant, and exactly one bound.
    gate["oneOf"] = [{"required": ["at_most"]}, {"required": ["at_least"]}]
    gate["properties"]["if_fails"] = _one_or_many(gate["properties"]["if_fails"])
    schema["$defs"]["Filter"]["properties"] = {axis: _one_or_many(kind) for axis, kind in axes.items()}
    return {"$schema": DRAFT, **schema}


def suite() -> dict[str, Any]:
    """Schema of a suite."""
    return {"$schema": DRAFT, **Suite.model_json_schema()}


def verdict() -> dict[str, Any]:
    """Schema of verdict.json."""
    return {"$schema": DRAFT, **_Verdict.model_json_schema(by_alias=True)}


def protocol_messages() -> dict[str, Any]:
    """Schema of every message of the engine protocol."""
    return protocol.json_schema()


SCHEMAS: dict[str, Callable[[], dict[str, Any]]] = {
    "contract": contract,
    "suite": suite,
    "verdict": verdict,
    "protocol": protocol_messages,
}


def as_text(name: str) -> str:
    """The file of one schema, as it stands in the package."""
    return json.dumps(SCHEMAS[name](), indent=1, ensure_ascii=False) + "\n"


def path(name: str) -> Path:
    """Where a schema stands."""
    return FOLDER / f"{name}.schema.json"


def _one_or_many(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of a list, or of a list or null, that one item may stand for."""
    kinds = schema.get("anyOf", [schema])
    items = [kind["items"] for kind in kinds if "items" in kind]
    kept = [{key: value for key, value in kind.items() if key not in ("default", "title")} for kind in kinds]
    return {**{key: schema[key] for key in ("default", "title") if key in schema}, "anyOf": [*items, *kept]}


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Band(_Part):
    match: float = Field(description="RMS logit difference up to which a position is noise")
    wrong: float = Field(description="RMS logit difference above which a position is WRONG")
    allow: float = Field(description="share of positions that may be WRONG all the same")
    beyond: float = Field(description="share of positions that may lie outside of match")
    basis: str


class _Statistics(_Part):
    """One metric over all positions of a cell; null is a number that is not finite."""

    mean: float | None
    median: float | None
    p95: float | None
    p99: float | None
    max: float | None
    min: float | None
    rms: float | None
    count: int = Field(description="values that were measured")
    not_measured: int
    prompts: int
    interval: tuple[float | None, float | None] | None = Field(
        description="95 % interval of the mean, from a bootstrap over prompts; null for a single prompt"
    )
    seed: int


class _Failure(_Part):
    key: str
    engine: str
    fault: Literal["setup", "engine", "environment"]
    text: str
    where: str
    remedy: str


class _Prompt(_Part):
    suite: str
    prompt_idx: int
    prompt_id: str
    prompt_sha256: str = Field(description="hash of the prompt's content, by which a waiver names it")
    bucket: str
    status: CellStatus
    counts: dict[PositionStatus, int]
    waiver: str = Field(description="the waiver that covers this prompt in this cell, or nothing")
    failure: _Failure | None = Field(description="what stands where the comparison would")


class _Power(_Part):
    """Known bugs that a band or a gate would catch here, as `calibrate --power` measured it."""

    caught: int
    known: int
    weakest: str = Field(description="the weakest that is caught, or nothing")
    weakest_size: float | None = Field(description="its RMS logit error over that of the noise")
    missed: dict[str, float] = Field(description="bugs that are missed though they exceed the noise, with their size")


class _Cell(_Part):
    """One candidate on one model, quantization, mode and ISA."""

    id: str
    reference: str
    candidate: str
    engine: str
    model: str
    quantization: str
    mode: Mode
    isa: str
    status: CellStatus
    expected: str | None = Field(description="the status that a control must have; null for a candidate")
    as_expected: bool
    reason: str
    witness: str = Field(description="what the contract's witness says of this cell, or nothing")
    evidence: dict[str, dict[str, list[str]]] = Field(
        {}, description="what engines said of their instructions, by instruction set, then by source"
    )
    positions: int = Field(description="positions that were compared and measured")
    counts: dict[PositionStatus, int]
    band: _Band | None
    power: _Power | None = Field(description="what the band would catch; null where that was not measured")
    metrics: dict[str, _Statistics]
    prompts: list[_Prompt]


class _Gate(_Part):
    """One gate on one cell; `cell` is empty where no cell could be measured."""

    id: str
    cell: str
    metric: str
    scope: str
    statistic: Statistic
    operator: Literal["at_most", "at_least"]
    status: GateStatus
    observed: float | None
    bound: float
    basis: str
    positions: int
    where: str
    if_fails: list[str]
    control: bool = Field(description="a gate on a control is shown and does not count")
    reason: str
    reference_error: float | None = Field(description="what the gate would observe of the reference against itself")
    reference_run: str = Field(description="the run of the reference in which that was worst")
    power: _Power | None = Field(description="what the gate would catch; null where that was not measured")


class _Unmeasured(_Part):
    cell: str
    reason: str
    allowed: bool = Field(description="whether the verdict may be PASS without it")


class _Waiver(_Part):
    """What became of a waiver; FIXED fails the run until it is taken out."""

    id: str
    status: WaiverStatus
    issue: str
    until: str
    cell: str
    prompt_id: str
    text: str


class _Falsified(_Part):
    """A prediction of the contract that its gates refute, and what to check first."""

    id: str
    prediction: str
    gates: list[str]
    steps: list[str]


class _PinnedModel(_Part):
    path: str
    files: dict[str, str] = Field(description="sha256 by file")
    sha256: str


class _Pins(_Part):
    models: dict[str, dict[str, _PinnedModel]] = Field(description="by model, then by quantization")
    suites: dict[str, str] = Field(description="sha256 by suite")


class _Engine(_Part):
    engine: str
    options: dict[str, Any]
    environment: list[str] = Field(description="names of the variables that were set, never their values")
    versions: dict[str, str] = {}
    isa: dict[str, str] = {}
    machine: protocol.Machine | None = Field(None, description="where it computes, as its hello says")
    details: dict[str, Any] = Field(description="what it said when it loaded, by weights file")


class _Host(_Part):
    machine: str
    system: str
    cores: int | None


class _Setting(_Part):
    """One setting as each side has it."""

    name: str
    reference: str
    candidate: str
    likeness: Likeness
    note: str
    check: str


class _Finding(_Part):
    """A fault of the set-up: what, both values, where it is written and what to do."""

    code: str
    setting: str
    reference: str
    candidate: str
    file: str
    field: str
    remedy: str
    text: str


class _Examined(_Part):
    """The comparison contract of one candidate on one weights file."""

    candidate: str
    model: str
    quantization: str
    settings: list[_Setting]
    findings: list[_Finding]
    skipped: list[_Finding] = Field(description="findings that stand by leave of the contract")
    reason: str = Field(description="why they may")


class _Preflight(_Part):
    pairs: list[_Examined]
    bos: dict[str, int] = Field(description="BOS token by model")


class _ReferenceError(_Part):
    """The reference against itself in one run, or a witness against the reference."""

    model: str
    weights: str
    mode: Mode
    run: str
    metrics: dict[str, _Statistics]
    failure: str = Field(description="why it could not be measured, or nothing")


class _Verdict(_Part):
    """verdict.json: the whole verdict, with everything that is needed to reach it again."""

    model_config = ConfigDict(extra="forbid", title="logitproof verdict")

    schema_: Literal[1] = Field(alias="schema", description="version of this format")
    contract: str
    contract_version: str
    status: Status
    exit_code: Literal[0, 1, 2, 3]
    cells: list[_Cell]
    gates: list[_Gate]
    unmeasured: list[_Unmeasured]
    waivers: list[_Waiver]
    falsified: list[_Falsified]
    preflight: _Preflight
    reference_error: list[_ReferenceError]
    run_id: str = Field(description="of the run, kept when a killed run is continued and when it is judged again")
    made_at: str
    pins: _Pins
    engines: dict[str, _Engine]
    versions: dict[str, str]
    host: _Host
    commands: list[str]
    jobs: int
    seconds: float


if __name__ == "__main__":
    for name in SCHEMAS:
        write_atomically(path(name), as_text(name))
