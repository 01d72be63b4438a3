"""The contract: a versioned YAML file of engines, models, suites, a matrix, bands and gates."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from logitproof import catalog
from logitproof.contract.arithmetic import Arithmetic, arithmetic_of
from logitproof.contract.history import Amendment, CrossReference, Falsification, Stage, Unblocks
from logitproof.contract.isa import BETWEEN, INSTRUCTION_SETS, NATIVE, Pin, pinned
from logitproof.contract.kernel_rows import KernelRows
from logitproof.contract.scope import parse_scope
from logitproof.contract.suite import Suite, open_suite
from logitproof.contract.typed import STRICT, Day, Pair, Positive, Whole
from logitproof.contract.waiver import Waiver
from logitproof.errors import ContractError
from logitproof.files.yaml import place, read_yaml
from logitproof.files.yaml_text import Lines
from logitproof.metrics import RoutingMetric

ORIGINAL = "original"
CONTRACT_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
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


class Reference(EngineUse):
    """The engine that is taken for right. `weights: candidate` lets it read the candidate's own file."""

    weights: Literal["original", "candidate"] = "original"
    intended: Annotated[str, Field(min_length=10)] | None = Field(
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
    may_be_exact: Annotated[str, Field(min_length=10)] | None = Field(
        None, description="why it may be nearer to the reference than its weights and arithmetic explain, or equal to it"
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
    basis: Annotated[str, Field(min_length=10)]
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
    basis: Annotated[str, Field(min_length=10)]
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

    skip: list[Annotated[str, Field(pattern=r"^PF\d{3}$")]] = Field(min_length=1)
    reason: Annotated[str, Field(min_length=10)]
    where: Filter = Filter()


class LintWaiver(_Strict):
    """Findings of lint of one code that may stand until a day, with the reason; `at` restricts it to one key."""

    code: Annotated[str, Field(pattern=r"^LP\d{3}$")]
    reason: Annotated[str, Field(min_length=10)]
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


_Labelled = Annotated[dict[str, str], Field(min_length=1)]
Files = Annotated[_Labelled, BeforeValidator(_files, json_schema_input_type=str | _Labelled)]
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
    version: Annotated[str, Field(pattern=r"^\d+\.\d+\.\d+([-+].*)?$")] = "0.1.0"
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
    bootstrap_seed: Whole = 0

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
        for name in [*self.candidates, *self.models, *self.matrix.quantization, *self.others]:
            if not name or "/" in name or name == "reference":
                raise ValueError(f"{name!r} cannot be a name: it is part of a cell's id")
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


@dataclass(frozen=True)
class OpenContract:
    """A contract with its file, its lines (for complaints) and its suites."""

    path: Path
    contract: Contract
    lines: Lines
    suites: tuple[Suite, ...]

    @property
    def folder(self) -> Path:
        return self.path.parent

    def where(self, *keys: str | int) -> str:
        return place(self.path, self.lines, *keys)


def open_contract(path: Path) -> OpenContract:
    """Read, validate and cross-check a contract; raises ContractError with file, line and remedy."""
    contract, lines = read_contract(path)
    path = path.resolve()
    suites = tuple(
        open_suite(name, path.parent, where=place(path, lines, "suites", index)) for index, name in enumerate(contract.suites)
    )
    opened = OpenContract(path, contract, lines, suites)
    _check_engines(opened)
    _check_instruction_sets(opened)
    _check_names(opened)
    return opened


def with_options(opened: OpenContract, candidate: str, options: Mapping[str, Any]) -> OpenContract:
    """The contract with options of one candidate over its own; raises ContractError of one that is not there."""
    candidates = opened.contract.candidates
    if candidate not in candidates:
        known = ", ".join(candidates)
        raise ContractError(f"no candidate is called {candidate!r}", where=str(opened.path), remedy=f"there are {known}")
    use = candidates[candidate]
    changed = use.model_copy(update={"options": {**use.options, **options}})
    contract = opened.contract.model_copy(update={"candidates": {**candidates, candidate: changed}})
    other_options = replace(opened, contract=contract)
    _check_engines(other_options)
    return other_options


def read_contract(path: Path) -> tuple[Contract, Lines]:
    """A contract by itself, without the suites and the engines that it names, and its lines."""
    contract, lines = read_yaml(path, Contract, command="`logitproof new` writes one to start from")
    return _every_label(contract), lines


def _every_label(contract: Contract) -> Contract:
    """Where no model has an original and no quantization is named, all are meant: published files may be all that there is."""
    labels = list(dict.fromkeys(label for files in contract.models.values() for label in files))
    if "quantization" in contract.matrix.model_fields_set or ORIGINAL in labels:
        return contract
    matrix = contract.matrix.model_copy(update={"quantization": labels})
    return contract.model_copy(update={"matrix": matrix})


def pairs_of(matrix: Matrix) -> dict[str, tuple[str, str]]:
    """The pairs of instruction sets by the name that stands for them on the axis `isa`."""
    return {BETWEEN.join(pair): pair for pair in matrix.isa_pairs}


def _check_engines(opened: OpenContract) -> None:
    named = opened.contract.references
    first = ("references", next(iter(named))) if isinstance(named, dict) and named else ("reference",)
    uses: list[tuple[tuple[str, ...], EngineUse]] = [(first, opened.contract.reference)]
    uses += [(("references", name), use) for name, use in opened.contract.others.items()]
    uses += [(("candidates", name), use) for name, use in opened.contract.candidates.items()]
    for keys, use in uses:
        entry = catalog.find("engines", use.engine, where=opened.where(*keys, "engine"))
        _check_options(opened, entry.name, use.options, (*keys, "options"))
        _check_arithmetic(opened, use, keys)


def _check_arithmetic(opened: OpenContract, use: EngineUse, keys: tuple[str, ...]) -> None:
    """A contract says how an engine computes where nobody knows it; where its class does, it cannot say otherwise."""
    known = arithmetic_of(use.engine, use.options) if use.arithmetic else None
    if use.arithmetic is None or known is None:
        return
    for name in ("base", "blocks", "cache"):
        stated, true = getattr(use.arithmetic, name), getattr(known, name)
        if name in use.arithmetic.model_fields_set and stated != true:
            raise ContractError(
                f"says {name}: {stated}, and the engine {use.engine} computes with {name}: {true} by these options",
                where=opened.where(*keys, "arithmetic", name),
                remedy="take `arithmetic` out, or set the engine's options to what it says",
            )


def _check_options(opened: OpenContract, engine: str, options: dict[str, Any], keys: tuple[str, ...]) -> None:
    known = catalog.find("engines", engine).option_names
    for option in options:
        if option not in known:
            raise ContractError(
                f"the engine {engine} has no option {option!r}{catalog.did_you_mean(option, known)}",
                where=opened.where(*keys, option),
            )


def _check_instruction_sets(opened: OpenContract) -> None:
    """Check that each is known and could be proven, and that a pair is of two of the matrix and has a band of its own."""
    contract, known = opened.contract, [NATIVE, *INSTRUCTION_SETS]
    named: list[tuple[tuple[str, ...], str]] = [(("matrix", "isa"), isa) for isa in contract.matrix.isa]
    named += [(("candidates", name, "isa", isa), isa) for name, use in contract.candidates.items() for isa in use.isa]
    for keys, isa in named:
        if isa not in known or (isa == NATIVE and keys[0] == "candidates"):
            text = f"no instruction set is called {isa!r}{catalog.did_you_mean(isa, known)}"
            raise ContractError(text, where=opened.where(*keys))
    for name, use in contract.candidates.items():
        for isa, pin in use.isa.items():
            _check_options(opened, use.engine, pin.options, ("candidates", name, "isa", isa, "options"))
            try:
                pinned(use.engine, pin, isa)
            except ContractError as error:
                raise ContractError(
                    error.text, where=opened.where("candidates", name, "isa", isa), remedy=error.remedy
                ) from None
    for label, pair in pairs_of(contract.matrix).items():
        where = opened.where("matrix", "isa_pairs")
        if len(set(pair)) < 2 or not set(pair) <= set(contract.matrix.isa):
            raise ContractError(f"{label} is not of two instruction sets of the matrix", where=where)
        # a calculated band is that of each cell that it selects; a typed one is another cell's unless it names the pair
        if not any(label in (band.where.isa or [label] if band.bound else band.where.isa or []) for band in contract.bands):
            remedy = f"add a band with `where: {{isa: {label}}}`, or `bound: calibrated`"
            raise ContractError(f"no band is of the pair {label} alone", where=where, remedy=remedy)


def _check_names(opened: OpenContract) -> None:
    contract = opened.contract
    axes = {
        "candidate": list(contract.candidates),
        "model": list(contract.models),
        "quantization": sorted({key for files in contract.models.values() for key in files}),
        "mode": list(Mode.__args__),  # type: ignore[attr-defined]
        "isa": [*contract.matrix.isa, *pairs_of(contract.matrix)],
        "against": ["", *contract.others],
    }
    filters: list[tuple[tuple[str | int, ...], Filter]] = [
        (("gates", index, "where"), gate.where) for index, gate in enumerate(contract.gates)
    ]
    filters += [(("bands", index, "where"), band.where) for index, band in enumerate(contract.bands)]
    filters += [(("candidates", name, "only"), use.only) for name, use in contract.candidates.items()]
    matrix = Filter(model=contract.matrix.model, quantization=contract.matrix.quantization)
    for keys, selection in [*filters, (("matrix",), matrix)]:
        for axis, values in selection:
            for value in values or []:
                if value not in axes[axis]:
                    raise ContractError(
                        f"no {axis} is called {value!r}{catalog.did_you_mean(value, axes[axis])}",
                        where=opened.where(*keys, axis),
                    )
    _check_gate_names(opened)
    for index, gate in enumerate(contract.gates):
        if gate.against and gate.against not in contract.others:
            known = list(contract.references) if isinstance(contract.references, dict) else ["reference"]
            text = f"no reference is called {gate.against!r}{catalog.did_you_mean(gate.against, known)}"
            raise ContractError(text, where=opened.where("gates", index, "against"))
    for index, gate in enumerate(contract.gates):
        catalog.find("metrics", gate.metric, where=opened.where("gates", index, "metric"))
        if not gate.is_calibrated and not math.isfinite(gate.bound):
            raise ContractError("the bound is not finite", where=opened.where("gates", index))


def _check_gate_names(opened: OpenContract) -> None:
    """Every gate that the contract's history speaks of exists."""
    contract = opened.contract
    ids = [gate.id for gate in contract.gates]
    named: list[tuple[tuple[str | int, ...], list[str]]] = [
        (("stages", index, "gates"), stage.gates) for index, stage in enumerate(contract.stages)
    ]
    for index, entry in enumerate(contract.falsification):
        named.append((("falsification", index, "test"), entry.test))
        named += [(("falsification", index, "if_fails", n, "when"), steps.when) for n, steps in enumerate(entry.if_fails)]
    stages = [stage.id for stage in contract.stages]
    for index, item in enumerate(contract.unblocks):
        for name in item.stages:
            if name not in stages:
                text = f"no stage is called {name!r}{catalog.did_you_mean(name, stages)}"
                raise ContractError(text, where=opened.where("unblocks", index, "stages"))
    for keys, names in named:
        for name in names:
            if name not in ids:
                raise ContractError(f"no gate is called {name!r}{catalog.did_you_mean(name, ids)}", where=opened.where(*keys))
