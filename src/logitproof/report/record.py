"""verdict.json, written down once: its schema and what is written both come from these types and those that they hold.

What no reporter would lay out differently stands as it is judged (a band, a gate, a waiver); a cell and a prompt are told
flat, and facts are plain data, because a run folder keeps them beside its traces.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, NotRequired, cast

from pydantic import ConfigDict, Field, TypeAdapter, with_config
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core.core_schema import DataclassField, ModelField, TypedDictField
from typing_extensions import TypedDict

from logitproof.bands.band import Band, PositionStatus
from logitproof.bands.power import Power
from logitproof.comparison.summary import Summary
from logitproof.contract.contract import CellStatus, Mode
from logitproof.contract.waiver import WaiverVerdict
from logitproof.preflight import Preflight
from logitproof.traces.trace import Failure
from logitproof.verdict.coverage import Coverage
from logitproof.verdict.gates import GateVerdict
from logitproof.verdict.judge import CellVerdict, ExitCode, Falsified, PromptVerdict, Status

CONFIG = ConfigDict(
    extra="forbid",
    title="logitproof verdict",
    use_attribute_docstrings=True,
)
Evidence = dict[str, dict[str, list[str]]]
"""What engines said of their instructions, by instruction set, then by source."""


class PromptRecord(TypedDict):
    """One prompt of a cell."""

    suite: str
    prompt_idx: int
    prompt_id: str
    prompt_sha256: str
    """hash of the prompt's content, by which a waiver names it"""
    bucket: str
    status: CellStatus
    counts: dict[PositionStatus, int]
    waiver: str
    """the waiver that covers this prompt in this cell, or nothing"""
    failure: Failure | None
    """what stands where the comparison would"""


class CellRecord(TypedDict):
    """One candidate on one model, quantization, mode and ISA."""

    id: str
    reference: str
    candidate: str
    engine: str
    model: str
    quantization: str
    mode: Mode
    isa: str
    against: str
    """which of several references it is compared with; nothing is the first"""
    status: CellStatus
    expected: str | None
    """the status that a control must have; null for a candidate"""
    as_expected: bool
    reason: str
    witness: str
    """what the contract's witness says of this cell, or nothing"""
    positions: int
    """positions that were compared and measured"""
    coverage: Coverage
    counts: Mapping[PositionStatus, int]
    band: Band | None
    power: Power | None
    """what the band would catch; null where that was not measured"""
    metrics: Mapping[str, Summary]
    prompts: list[PromptRecord]
    evidence: NotRequired[Evidence]
    """what engines said of their instructions, by instruction set, then by source"""


class UnmeasuredRecord(TypedDict):
    """A cell that was not measured, and why."""

    cell: str
    reason: str
    allowed: bool
    """whether the verdict may be PASS without it"""


class PinnedModel(TypedDict):
    """The files of one model."""

    path: str
    files: dict[str, str]
    """sha256 by file"""
    sha256: str
    commit: NotRequired[str]
    """of a hub id, what its revision was resolved to"""


class Pins(TypedDict):
    """What the verdict is of."""

    models: dict[str, dict[str, PinnedModel]]
    """by model, then by quantization"""
    suites: dict[str, str]
    """sha256 by suite"""


class Machine(TypedDict):
    """The machine that an engine computes on."""

    architecture: str
    processor: str
    flags: list[str]


class EngineRecord(TypedDict):
    """An engine as the contract uses it, and what it said of itself where it answered."""

    engine: str
    options: dict[str, Any]
    environment: list[str]
    """names of the variables that were set, never their values"""
    versions: NotRequired[dict[str, str]]
    isa: NotRequired[dict[str, str]]
    machine: NotRequired[Machine | None]
    """where it computes, as its hello says"""
    details: dict[str, Any]
    """what it said when it loaded, by weights file"""


class Host(TypedDict):
    """The machine that the harness ran on."""

    machine: str
    system: str
    cores: int | None


class ReferenceErrors(TypedDict):
    """The reference against itself in one run, or a witness against the reference."""

    model: str
    weights: str
    mode: Mode
    run: str
    metrics: dict[str, Summary]
    failure: str
    """why it could not be measured, or nothing"""


class MeasuredAgain(TypedDict):
    """Traces that were there and were measured again."""

    engine: str
    reason: str
    traces: int


class EndedBadly(TypedDict):
    """An engine whose process failed at `close`."""

    engine: str
    how: str


class Provenance(TypedDict):
    """What someone needs to run it again."""

    made_at: str
    pins: Pins
    engines: dict[str, EngineRecord]
    versions: dict[str, str]
    host: Host
    commands: list[str]
    jobs: int
    seconds: float


@with_config(CONFIG)
class Judged(TypedDict):
    """The verdict itself."""

    schema: Annotated[Literal[1], Field(description="version of this format")]
    contract: str
    contract_version: str
    status: Status
    exit_code: ExitCode
    reason: str
    """why it is no PASS, in one line; nothing where it is"""
    cells: list[CellRecord]
    gates: Sequence[GateVerdict]
    unmeasured: list[UnmeasuredRecord]
    waivers: Sequence[WaiverVerdict]
    falsified: Sequence[Falsified]


@with_config(CONFIG)
class VerdictFile(Judged, Provenance):
    """verdict.json: the whole verdict, with everything that is needed to reach it again."""

    format: Literal[1]
    """of the envelope that every answer has"""
    kind: Literal["verdict"]
    version: str
    """logitproof's"""
    about: str
    """what was asked about, in one line"""
    run_id: str
    """of the run, kept when a killed run is continued and when it is judged again"""
    preflight: Preflight
    measured_again: NotRequired[list[MeasuredAgain]]
    """traces that were there, and why they were not used; an engine that was changed is measured again"""
    from_store: NotRequired[int]
    """traces that an earlier run had measured"""
    ended_badly: NotRequired[list[EndedBadly]]
    """engines that had answered everything and did not end well when they were asked to"""
    reference_error: list[ReferenceErrors]


def as_plain(judged: Judged) -> dict[str, Any]:
    """The verdict as JSON has it: lists for tuples, objects for records; a number that is not finite stays one."""
    plain: dict[str, Any] = TypeAdapter(Judged).dump_python(judged, mode="json", warnings="error")
    return plain


class _Written(GenerateJsonSchema):
    """A record is written with all its fields, those with a default too."""

    def field_is_required(self, field: ModelField | DataclassField | TypedDictField, total: bool) -> bool:
        return field.get("required", total) if field["type"] == "typed-dict-field" else True


def verdict_schema() -> dict[str, Any]:
    """The JSON schema of verdict.json."""
    return TypeAdapter(VerdictFile).json_schema(mode="serialization", schema_generator=_Written)


def cell_record(verdict: CellVerdict, evidence: Evidence) -> CellRecord:
    """One cell, told flat."""
    cell = verdict.cell
    return {
        "id": cell.id,
        "reference": cell.reference_name,
        "candidate": cell.candidate,
        "engine": cell.candidate_name,
        "model": cell.model,
        "quantization": cell.quantization,
        "mode": cell.mode,
        "isa": cell.isa,
        "against": cell.against,
        "status": verdict.status,
        "expected": verdict.expected,
        "as_expected": verdict.as_expected,
        "reason": verdict.reason,
        "witness": verdict.witness,
        "positions": verdict.positions,
        "coverage": verdict.coverage,
        "counts": verdict.counts,
        "band": verdict.band,
        "power": verdict.power,
        "metrics": cast(Mapping[str, Summary], verdict.metrics),
        "prompts": [_prompt_record(prompt) for prompt in verdict.prompts],
        "evidence": evidence,
    }


def _prompt_record(prompt: PromptVerdict) -> PromptRecord:
    return {
        "suite": prompt.pair.suite,
        "prompt_idx": prompt.pair.prompt_idx,
        "prompt_id": prompt.pair.prompt.id,
        "prompt_sha256": prompt.pair.prompt.sha256,
        "bucket": prompt.pair.prompt.bucket,
        "status": prompt.status,
        "counts": prompt.counts,
        "waiver": prompt.waiver,
        "failure": prompt.failure,
    }
