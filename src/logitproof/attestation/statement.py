"""What a statement about a run holds: an in-toto Statement v1, whose predicate is all that the verdict was reached from.

Numbers stand as JSON has them, so that reading them gives the same bits; what is not a number is null, infinity a word.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import date
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from logitproof.contract.contract import CellStatus, Mode, Statistic
from logitproof.files.forms import SHA256
from logitproof.files.untrusted import Number
from logitproof.verdict.gates import GateStatus
from logitproof.verdict.judge import Status

FORMAT = 1
STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = f"urn:logitproof:verdict:{FORMAT}"
PAYLOAD = "application/vnd.in-toto+json"
Sha256 = Annotated[str, Field(pattern=SHA256)]
Value = float | Literal["inf", "-inf"] | None
"""A float64 of a statistic."""
Values = list[Value]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Subject(Strict):
    """Something that the statement is about, by its hash."""

    name: str
    digest: dict[Literal["sha256"], Sha256] = Field(min_length=1)


class Fault(Strict):
    """What stands where a comparison would."""

    key: str
    engine: str
    fault: Literal["setup", "engine", "environment"]
    text: str
    where: str
    remedy: str


class Row(Strict):
    """One prompt of a cell: every number that a gate or a band looks at, a value a position."""

    suite: str
    prompt_idx: Number
    prompt_id: str
    prompt_sha256: Sha256
    bucket: str
    prompt_length: Number
    planned: Number
    compared: bool
    values: dict[str, Values]
    whole: dict[str, Value]
    """metrics with one value a prompt"""
    match: Values
    """of a calculated band, [T] logits"""
    expected: Values
    """of a calculated band: the RMS error that noise makes, [T] logits"""
    failure: Fault | None

    @model_validator(mode="after")
    def _is_of_one_length(self) -> Row:
        lengths = {len(values) for values in (*self.values.values(), *(part for part in (self.match, self.expected) if part))}
        if len(lengths) > 1:
            raise ValueError(f"its columns have {sorted(lengths)} positions")
        return self


class Tolerance(Strict):
    """The band of a cell; of a calculated one, `match` and `wrong` are each position's own and stand here as medians."""

    calculated: bool
    match: Annotated[float, Field(ge=0)]
    wrong: Annotated[float, Field(ge=0)]
    allow: Annotated[float, Field(ge=0, le=1)]
    beyond: Annotated[float, Field(ge=0, le=1)]
    basis: str


class Calculated(Strict):
    """A bound of a gate that was calculated."""

    value: Value
    basis: str


class OwnError(Strict):
    """What a gate would observe of the reference against itself."""

    value: Value
    run: str


class Covered(Strict):
    """Positions of a cell."""

    planned: Number
    measured: Number
    judged: Number


class CellStatement(Strict):
    """A cell: what it was judged by, and what it was judged to be."""

    id: str
    candidate: str
    model: str
    quantization: str
    mode: Mode
    isa: str
    against: str
    reference: str
    engine: str
    band: Tolerance | None
    bounds: dict[str, Calculated]
    own_errors: dict[str, OwnError]
    same_arithmetic: bool
    rows: list[Row]
    status: CellStatus
    expected: str | None
    as_expected: bool
    positions: Number
    coverage: Covered
    counts: dict[str, Number]
    metrics: dict[str, dict[str, Value]]


class GateStatement(Strict):
    """A gate on a cell, with what was observed and the bound."""

    id: str
    cell: str
    metric: str
    scope: str
    statistic: Statistic
    operator: Literal["at_most", "at_least"]
    status: GateStatus
    observed: Value
    bound: Value
    positions: Number
    not_measured: Number
    control: bool
    reference_error: Value


class Unmeasured(Strict):
    """A cell that was not measured, and why."""

    cell: str
    reason: str


class Build(Strict):
    """What an engine is: its hash is that of all that stands here."""

    engine: str
    options: dict[str, Any]
    versions: dict[str, str]
    isa: dict[str, str]
    files: list[str]
    """what its processes executed, as `sha256  name`"""
    unknown: str
    """why that is not known, or nothing"""


class Weights(Strict):
    """The files of one set of weights; `seen` where they lay there, unchanged, when the statement was made."""

    files: dict[str, Sha256]
    seen: bool


class Contracted(Strict):
    """The contract: its hash, and what it demands; values of environment variables are left out."""

    name: str
    version: str
    sha256: Sha256
    terms: dict[str, Any]


class Decided(Strict):
    """The verdict on the whole."""

    status: Status
    exit_code: Literal[0, 1, 2, 3]


class Predicate(Strict):
    """Everything that the verdict was reached from."""

    format: Literal[1]
    version: str
    """logitproof's, which signed"""
    run_id: str
    made_at: str
    attested_at: str
    judged_on: date
    """the day by which waivers end"""
    contract: Contracted
    models: dict[str, dict[str, Weights]]
    suites: dict[str, Sha256]
    engines: dict[str, Build]
    versions: dict[str, str]
    host: dict[str, Any]
    cells: list[CellStatement]
    unmeasured: list[Unmeasured]
    gates: list[GateStatement]
    verdict: Decided
    seals: dict[str, Sha256]
    """of every part its sha256, by which an edited one is named; what proves that none is, is the signature"""


class Statement(BaseModel):
    """The whole, as the in-toto Attestation Framework has it."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, serialize_by_alias=True)
    type: Literal["https://in-toto.io/Statement/v1"] = Field(alias="_type")
    subject: list[Subject] = Field(min_length=1)
    predicateType: Literal["urn:logitproof:verdict:1"]
    predicate: Predicate


def written(values: Iterable[float]) -> Values:
    """Numbers as a statement has them."""
    return [value_written(float(value)) for value in values]


def value_written(value: float | None) -> Value:
    if value is None or math.isnan(value):
        return None
    return value if math.isfinite(value) else "inf" if value > 0 else "-inf"


def value_read(value: Value) -> float:
    """The number that was written."""
    return math.nan if value is None else float(value)
