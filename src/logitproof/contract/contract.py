"""The contract: a versioned YAML file of engines, models, suites, a matrix, bands and gates."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from logitproof import catalog
from logitproof.contract.arithmetic import Arithmetic
from logitproof.contract.history import Amendment, CrossReference, Falsification, Stage, Unblocks
from logitproof.contract.isa import BETWEEN, NATIVE, Pin
from logitproof.contract.kernel_rows import KernelRows
from logitproof.contract.scope import parse_scope
from logitproof.contract.typed import STRICT, Count, Day, FilePath, Pair, Positive, Reason
from logitproof.contract.waiver import Waiver
from logitproof.files import forms
from logitproof.metrics import RoutingMetric

ORIGINAL = "original"
CONTRACT_NAME = forms.PLAIN_NAME
Mode = Literal["prefill", "decode", "greedy", "self"]
"""`prefill` and `decode` are teacher-forced, `greedy` runs free, `self` is an engine's decode against its own prefill."""
Statistic = Literal["mean", "median", "p95", "p99", "max", "min", "rms"]
CellStatus = Literal[
    "MATCH", "TIE-FLIP", "DRIFT", "KNOWN-DIVERGENT", "WRONG", "SUSPECT", "NOT-MEASURED", "SET-UP ERROR", "ENGINE ERROR"
]
Axis = Literal["candidate", "model", "quantization", "mode", "isa", "against"]
Finite = Annotated[float, Field(allow_inf_nan=False)]


class _Strict(BaseModel):
    model_config = STRICT


class EngineUse(_Strict):
    """An engine with its options, as a contract names it."""

    engine: str
    options: dict[str, Any] = {}
    environment: dict[str, str] = Field({}, description="variables set before the engine's process starts")
    python: str | None = Field(None, description="another interpreter, for engines whose dependencies clash")
    inherit: list[str] = Field([], description="variables of the harness's environment that the engine gets too, by name")
    timeout: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 600.0
    deadline: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = Field(
        None, description="seconds for one answer in all, whatever progress it reports; else twenty times `timeout`"
    )
    arithmetic: Arithmetic | None = Field(None, description="how it computes, for `calibrate`, where that is not known")
    tokenizer: Annotated[str, Field(min_length=1)] | None = Field(
        None, description="folder or GGUF file whose tokenizer cuts texts for it, where it has none of its own"
    )


class Reference(EngineUse):
    """The engine that is taken for right. `weights: candidate` lets it read the candidate's own file."""

    weights: Literal["original", "candidate"] = "original"
    intended: Reason | None = Field(
        None, description="why it computes in a narrower type than float32 on purpose; its own error is then in the bar"
    )


class Filter(_Strict):
    """Which cells of the matrix are meant; an axis that is not named is not restricted."""

    candidate: list[str] | None = None
    model: list[str] | None = None
    quantization: list[str] | None = None
    mode: list[Mode] | None = None
    isa: list[str] | None = None
    against: list[str] | None = Field(None, description="which of several references; the first is meant by its name too")

    @model_validator(mode="before")
    @classmethod
    def _one_is_a_list(cls, data: Any) -> Any:
        if isinstance(data, dict):
            return {key: [value] if isinstance(value, str) else value for key, value in data.items()}
        return data

    @model_validator(mode="after")
    def _selects_something(self) -> Filter:
        for axis, values in self:
            if values is not None and not values:
                raise ValueError(f"{axis} is an empty list, so it selects nothing")
        return self

    def selects(self, axes: Mapping[str, str]) -> bool:
        return all(values is None or axes[axis] in values for axis, values in self)


class Candidate(EngineUse):
    """An engine under test. `expect: WRONG` makes it a control: the run fails unless it is WRONG."""

    only: Filter = Filter()
    isa: dict[str, Pin] = Field({}, description="how it is pinned to an instruction set, beside what the engine says itself")
    expect: Literal["WRONG"] | None = None
    build_id: Annotated[str, Field(min_length=1)] | None = Field(
        None, description="the name in the `versions` of its hello that says which build it is; traces are used again by it"
    )
    may_be_exact: Reason | None = Field(
        None, description="why it may be nearer to the reference than its weights and arithmetic explain, or equal to it"
    )
    may_be_vacuous: Reason | None = Field(
        None, description="why its bounds may be so wide that rows of zeros, or rows in the place of others, would keep them"
    )


class Matrix(_Strict):
    """The axes; a cell is one candidate with one value of each."""

    model: Annotated[list[str], Field(min_length=1)] | None = Field(None, description="all models, unless named")
    quantization: list[str] = Field([ORIGINAL], min_length=1)
    mode: list[Mode] = Field(["prefill", "decode"], min_length=1)
    isa: list[str] = Field([NATIVE], min_length=1, description="native is what the engine chooses itself")
    isa_pairs: list[Pair] = Field([], description="the same engine on the first against the second")


class BandEntry(_Strict):
    """A tolerance on the RMS logit difference per position, for some cells, with its reason.

    `bound: calibrated` takes the one that `logitproof calibrate` calculated for every position.
    """

    where: Filter = Filter()
    bound: Literal["calibrated"] | None = None
    match: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    wrong: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    allow: Annotated[float, Field(ge=0, lt=1)] = 0.0
    basis: Reason
    rests_on: KernelRows | None = Field(None, description="the rows of a kernel baseline that it rests on, looked up by lint")

    @model_validator(mode="after")
    def _is_ordered(self) -> BandEntry:
        if self.bound is not None:
            if self.match is not None or self.wrong is not None or self.allow:
                raise ValueError("a calibrated band has no `match`, `wrong` or `allow` of its own")
            return self
        if self.match is None or self.wrong is None:
            raise ValueError("a band has `match` and `wrong`, or `bound: calibrated`")
        if self.match > self.wrong:
            raise ValueError(f"match ({self.match:g}) must not exceed wrong ({self.wrong:g})")
        return self


class Gate(_Strict):
    """A metric, the positions it looks at, a statistic and exactly one bound with its reason."""

    id: str
    metric: str
    scope: str = "all"
    statistic: Statistic = "mean"
    at_most: Finite | Literal["calibrated"] | None = None
    at_least: Finite | Literal["calibrated"] | None = None
    basis: Reason
    where: Filter = Filter()
    against: str | None = Field(None, description="which of several references it compares with; the first, unless named")
    if_fails: list[str] = []

    @model_validator(mode="before")
    @classmethod
    def _one_step_is_a_list(cls, data: Any) -> Any:
        if isinstance(data, dict) and isinstance(data.get("if_fails"), str):
            return {**data, "if_fails": [data["if_fails"]]}
        return data

    @model_validator(mode="after")
    def _can_fail(self) -> Gate:
        if (self.at_most is None) == (self.at_least is None):
            raise ValueError("a gate has exactly one bound: `at_most` or `at_least`")
        parse_scope(self.scope)
        return self

    @property
    def is_calibrated(self) -> bool:
        """Whether the bound is the one that `logitproof calibrate` calculated."""
        return "calibrated" in (self.at_most, self.at_least)

    @property
    def bound(self) -> float:
        """The bound; NaN where it is a calculated one that was not looked up."""
        bound = self.at_most if self.at_most is not None else self.at_least
        return math.nan if bound is None or isinstance(bound, str) else bound

    def bounded_by(self, bound: float, basis: str) -> Gate:
        """The same gate with a calculated bound in the place of the word."""
        side = "at_most" if self.at_most is not None else "at_least"
        return self.model_copy(update={side: bound, "basis": f"{self.basis}; {basis}"})

    def selects(self, axes: Mapping[str, str]) -> bool:
        """Whether it looks at the cell of these axes; of a cell against another reference, only where it names that."""
        return axes.get("against", "") == (self.against or "") and self.where.selects(axes)

    def holds(self, observed: float) -> bool:
        """Written so that NaN fails."""
        return observed <= self.bound if self.at_most is not None else observed >= self.bound


class Skip(_Strict):
    """Findings of preflight that may stand, by code, with the reason why the comparison is fair all the same."""

    skip: list[Annotated[str, Field(pattern=forms.OF_PREFLIGHT)]] = Field(min_length=1)
    reason: Reason
    where: Filter = Filter()


class LintWaiver(_Strict):
    """Findings of lint of one code that may stand until a day, with the reason; `at` restricts it to one key."""

    code: Annotated[str, Field(pattern=forms.OF_LINT)]
    reason: Reason
    until: Day
    at: str = Field("", description="where it is meant, as a complaint names it: suites, gates.2, models.qwen.Q4_0")


class Witness(EngineUse):
    """A second engine that says whether the reference can be trusted. `weights` names the file that it reads."""

    weights: str = ORIGINAL


Varied = Literal["threads", "attention", "decode"]


class ErrorBar(_Strict):
    """How the reference is run again under settings that should not matter; `builds` are further builds of it."""

    vary: list[Varied] = Field(["threads", "attention", "decode"], description="settings, where the engine has them")
    builds: dict[str, EngineUse] = {}
    prompts: Positive | None = Field(None, description="only so many prompts of each suite")


def is_of_routing(metric: str) -> bool:
    """Whether a metric of the catalogue is measured of what routers choose."""
    return metric in catalog.entries("metrics") and issubclass(catalog.load("metrics", metric), RoutingMetric)


def _files(value: Any) -> Any:
    """One path is the whole model: a GGUF file, or a Hugging Face folder."""
    return {ORIGINAL: value} if isinstance(value, str) else value


_Labelled = Annotated[dict[str, FilePath], Field(min_length=1)]
Files = Annotated[_Labelled, BeforeValidator(_files, json_schema_input_type=FilePath | _Labelled)]
"""The weights of a model by the labels of their quantizations; a single path is its `original`."""


def _without_name(gate: Any, first: str) -> Any:
    """The gate as it was written, but that it names no reference where it names the first."""
    return {**gate, "against": None} if isinstance(gate, dict) and gate.get("against") == first else gate


def _one_or_several(schema: dict[str, Any]) -> None:
    """A contract has `reference`, or several `references` by name."""
    schema["required"].remove("reference")
    several = {"required": ["references"], "properties": {"references": {"type": "object", "minProperties": 1}}}
    schema["oneOf"] = [{"required": ["reference"]}, several]


class Contract(_Strict):
    """Everything that a verdict depends on, in one file."""

    model_config = ConfigDict(json_schema_extra=_one_or_several)

    contract: Annotated[str, Field(pattern=CONTRACT_NAME)]
    version: Annotated[str, Field(pattern=forms.VERSION)] = "0.1.0"
    about: str = ""
    reference: Reference
    candidates: dict[str, Candidate] = Field(min_length=1)
    models: dict[str, Files] = Field(min_length=1)
    suites: list[str] = Field(min_length=1)
    matrix: Matrix = Matrix()
    bands: list[BandEntry] = Field(min_length=1)
    gates: list[Gate] = Field(min_length=1)
    status: Literal["draft", "active", "retired"] = "draft"
    stages: list[Stage] = []
    amendments: list[Amendment] = []
    falsification: list[Falsification] = []
    references: list[CrossReference] | dict[str, Reference] = Field(
        [], description="several references by name, which gates choose by `against`; or, as a list, the files it rests on"
    )
    unblocks: list[Unblocks] = Field([], description="items of other repositories that wait for stages of this contract")
    rests_on: list[CrossReference] = Field([], description="files of other repositories that it rests on")
    waivers: list[Waiver] = []
    lint: list[LintWaiver] = Field([], description="findings of `logitproof lint` that may stand, each with reason and end")
    preflight: Skip | None = None
    error_bar: ErrorBar = ErrorBar()
    witness: Witness | None = None
    pins: str | None = Field(None, description="a pins file of `logitproof pin`, verified before anything runs")
    may_be_unmeasured: list[str] = Field([], description="globs of cells that may stay unmeasured")
    bootstrap_seed: Count = 0

    @model_validator(mode="before")
    @classmethod
    def _the_first_is_the_reference(cls, data: Any) -> Any:
        """Of several references the first is the one that continues the prompts; no name means it, and so does its own."""
        if not isinstance(data, dict) or not isinstance(data.get("references"), dict) or not data["references"]:
            return data
        named = data["references"]
        first = next(iter(named))
        if "reference" in data:
            raise ValueError("give `reference`, or several `references` by name, not both")
        gates = data.get("gates")
        if isinstance(gates, list):
            gates = [_without_name(gate, first) for gate in gates]
        return {**data, "reference": named[first], "gates": gates}

    @model_validator(mode="after")
    def _names_agree(self) -> Contract:
        for kind, entries in (
            ("gate", self.gates),
            ("stage", self.stages),
            ("falsification", self.falsification),
            ("reference", self.files_it_rests_on),
            ("waiver", self.waivers),
        ):
            ids = [entry.id for entry in entries]
            if twice := sorted({name for name in ids if ids.count(name) > 1}):
                raise ValueError(f"the {kind} id {twice[0]!r} stands twice")
        return self

    @property
    def files_it_rests_on(self) -> list[CrossReference]:
        """The files of other repositories, under whichever of the two keys."""
        return [*(self.references if isinstance(self.references, list) else []), *self.rests_on]

    @property
    def asks_for_routing(self) -> bool:
        """Whether a gate looks at what routers choose, so that engines are asked for that."""
        return any(is_of_routing(gate.metric) for gate in self.gates)

    @property
    def others(self) -> dict[str, Reference]:
        """The references beside the first, by name."""
        return dict(list(self.references.items())[1:]) if isinstance(self.references, dict) else {}

    def reference_of(self, against: str) -> Reference:
        """The reference of that name; the first, where nothing is named."""
        return self.others[against] if against else self.reference

    def may_stay_unmeasured(self, cell: str) -> bool:
        """Whether the contract gives a cell, by its id, leave to stay unmeasured."""
        return any(fnmatch.fnmatchcase(cell, glob) for glob in self.may_be_unmeasured)


def pairs_of(matrix: Matrix) -> dict[str, tuple[str, str]]:
    """The pairs of instruction sets by the name that stands for them on the axis `isa`."""
    return {BETWEEN.join(pair): pair for pair in matrix.isa_pairs}
