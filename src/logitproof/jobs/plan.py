"""From a contract to jobs: pure data, nothing is run and nothing is loaded."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from logitproof.contract.contract import ORIGINAL, Candidate, Contract, Matrix, pairs_of
from logitproof.contract.inert import refuse_inert
from logitproof.contract.isa import BETWEEN, NATIVE, Lacks
from logitproof.contract.opened import OpenContract
from logitproof.contract.suite import Prompt, Suite
from logitproof.errors import ContractError, raise_all
from logitproof.jobs.cell import AXES, NOT_SELECTED, Cell, Pair, Unmeasured
from logitproof.jobs.job import Job, JobKind, engine_facts, make_job
from logitproof.jobs.passes import crossing_in_model, may_cross
from logitproof.jobs.sides import first_side, sides, source_side
from logitproof.jobs.spec import Side, spec_key
from logitproof.jobs.specs import not_here, reference_name, specs, use_of
from logitproof.protocol.messages import HelloResult
from logitproof.weights.hub import absolute, located
from logitproof.weights.model import Model, open_model

SHOWN = 20
"""Cells that are listed where none is selected."""


@dataclass(frozen=True)
class Plan:
    """Jobs in an order that respects `after`; the cells that they serve; what will not be checked.

    `yardsticks` are cells that measure the reference itself; no gate looks at them.
    """

    jobs: tuple[Job, ...]
    cells: tuple[Cell, ...]
    unmeasured: tuple[Unmeasured, ...]
    models: Mapping[str, Model] = field(default_factory=dict)
    yardsticks: tuple[Cell, ...] = ()


def open_models(opened: OpenContract, only: str = "*") -> dict[str, Model]:
    """Check and hash every file of the models that a selected cell needs, by absolute path.

    Raises ContractError where one quantization is a copy of another's file: what it is called says nothing of it then.
    """
    wanted = {(cell.model, cell.quantization) for cell in _selected(opened, only)}
    models: dict[str, Model] = {}
    of_one: dict[str, dict[str, Model]] = {}
    witness = opened.contract.witness
    also = {ORIGINAL, witness.weights} if witness else {ORIGINAL}
    for name, quantization in sorted(wanted | {(model, label) for model, _ in wanted for label in also}):
        files = opened.contract.models[name]
        if quantization in files:
            where = opened.where("models", name, quantization)
            path = absolute(located(files[quantization], opened.folder, where=where))
            models.setdefault(str(path), open_model(path, where=where))
            beside = of_one.setdefault(name, {})
            _refuse_copy(models[str(path)], beside, where)
            beside[str(path)] = models[str(path)]
    return models


def _refuse_copy(model: Model, beside: Mapping[str, Model], where: str) -> None:
    for path, known in beside.items():
        if known.path != model.path and sorted(known.files.values()) == sorted(model.files.values()):
            raise ContractError(
                f"{model.path} is a copy of {path}, byte for byte: whatever it is called, nothing was quantized",
                where=where,
                remedy="name the file that was meant, or the same path twice where one file is meant to serve both",
            )


def plan(
    opened: OpenContract,
    capabilities: Mapping[str, HelloResult | Exception],
    models: Mapping[str, Model],
    *,
    only: str = "*",
    lacks: Lacks | None = None,
) -> Plan:
    """Jobs and cells of a contract.

    `capabilities` holds what each engine said in `hello` (by the names of `specs`), or the error that it
    died with: its cells are then still planned, so that the failure stands where the traces would. `lacks` says which
    instruction sets the machines have not that run engines, where these are others than this one.
    Raises ContractError of a gate that no engine could break.
    """
    refuse_inert(opened)
    builder = _Builder(opened, capabilities, models, lacks)
    for cell in _selected(opened, only):
        builder.add(cell)
    others = [Unmeasured(cell.id, f"{NOT_SELECTED} {only}") for cell in matrix_cells(opened) if not _is_selected(cell, only)]
    return Plan(tuple(builder.jobs.values()), tuple(builder.cells), tuple(builder.unmeasured + others), models)


class _Builder:
    """Collects jobs by key, so that what two cells share is run once."""

    def __init__(
        self, opened: OpenContract, capabilities: Mapping[str, Any], models: Mapping[str, Model], lacks: Lacks | None
    ) -> None:
        self.opened, self.capabilities, self.models, self.lacks = opened, capabilities, models, lacks
        self.specs = specs(opened, lacks)
        self.jobs: dict[str, Job] = {}
        self._engines: dict[str, Mapping[str, Any]] = {}
        self.cells: list[Cell] = []
        self.unmeasured: list[Unmeasured] = []

    def add(self, cell: Cell) -> None:
        if reason := self._impossible(cell):
            self.unmeasured.append(Unmeasured(cell.id, reason))
            return
        compared = (*sides(self.opened, cell), first_side(self.opened, cell), source_side(self.opened, cell))
        pairs = []
        for suite in self.opened.suites:
            for index, prompt in enumerate(suite.prompts):
                pairs.append(self._pair(cell, compared, suite, index, prompt))
        self.cells.append(Cell(**{**cell.__dict__, "pairs": tuple(pairs)}))

    def _impossible(self, cell: Cell) -> str:
        if self._is_the_reference(cell):
            return "its engine, options and weights are the reference's own, so a trace would be compared with itself"
        for isa in cell.isa.split(BETWEEN):
            if reason := not_here(self.opened.contract.candidates[cell.candidate], isa, self.opened, self.lacks):
                return reason
        hello = self.capabilities[use_of(cell)]
        if isinstance(hello, Exception):
            return ""
        if reason := self._another_function(cell):
            return reason
        needed = {"prefill": ["prefill"], "decode": ["decode"], "self": ["prefill", "decode"], "greedy": []}[cell.mode]
        for mode in needed:
            if mode not in hello.modes:
                return f"the engine {hello.engine} does not offer {mode}"
        if cell.mode == "greedy" and not hello.generate:
            return f"the engine {hello.engine} does not offer generate"
        return ""

    def _another_function(self, cell: Cell) -> str:
        """Why a cell would compare two functions, where a model's rows depend on the length of the pass."""
        crossing = crossing_in_model(self.opened, cell.model)
        prompts = ((prompt, suite.continuation(prompt)) for suite in self.opened.suites for prompt in suite.prompts)
        if cell.mode not in ("self", "decode") or not any(may_cross(crossing, *asked) for asked in prompts):
            return ""
        if cell.mode == "self":
            return f"its prefill and its decode are two functions of the tokens ({crossing})"
        reads, _ = sides(self.opened, cell)
        hello = self.capabilities[reads.name]
        if isinstance(hello, Exception) or cell.is_between or "decode" in hello.modes:
            return ""
        return f"the reference offers no decode, and its prefill is another function of the tokens ({crossing})"

    def _is_the_reference(self, cell: Cell) -> bool:
        if cell.isa != NATIVE:
            return False
        same = self.specs[cell.candidate].identity() == self.specs[reference_name(cell.against)].identity()
        if not same or cell.mode != "prefill":
            return False
        reference, candidate = sides(self.opened, cell)
        return candidate.model == reference.model

    def _pair(self, cell: Cell, compared: tuple[Side, Side, Side, Side], suite: Suite, index: int, prompt: Prompt) -> Pair:
        """`compared`: reference, candidate, what it is compared with where that is itself, and who continues the prompts."""
        reads, asked, first, leads = compared
        length = suite.continuation(prompt)
        source = self._job(leads, "generate", "greedy", prompt, length)
        if cell.mode == "greedy":
            side = first if cell.is_between else reads if cell.against else None
            reference = self._job(side, "generate", "greedy", prompt, length, source) if side else source
            candidate = self._job(asked, "generate", "greedy", prompt, length, source)
        else:
            own = cell.mode == "self"
            mode = "decode" if own else cell.mode
            if own or cell.is_between:
                reference = self._job(first, "score", "prefill" if own else mode, prompt, 0, source)
            else:
                # A bug in the reference's cache must not excuse one in the candidate's, except where the two are two functions.
                crosses = cell.mode == "decode" and may_cross(crossing_in_model(self.opened, cell.model), prompt, length)
                reference = self._job(reads, "score", "decode" if crosses else "prefill", prompt, 0, source)
            candidate = self._job(asked, "score", mode, prompt, 0, source)
        hello = self.capabilities[asked.name]
        cuts = bool(asked.spec.tokenizer) or (not isinstance(hello, Exception) and hello.tokenize)
        asks = prompt.text is not None and not isinstance(hello, Exception) and cuts
        tokenized = self._job(asked, "tokenize", "", prompt) if asks else None
        return Pair(suite.suite, index, prompt, source, reference, candidate, tokenized)

    def _names_its_build(self, side: Side, hello: HelloResult | None) -> bool:
        """Whether an engine says which build it is, by the name that the contract trusts; that is then in the key."""
        use = self.opened.contract.candidates.get(side.name.partition(" on ")[0])
        return bool(use and use.build_id and hello and hello.versions.get(use.build_id))

    def _facts(self, side: Side) -> Mapping[str, Any]:
        """What the keys of an engine's jobs have in common: read once a plan, since it is many files."""
        name = spec_key(side.spec)
        if name not in self._engines:
            self._engines[name] = engine_facts(side.spec)
        return self._engines[name]

    def _job(
        self, side: Side, kind: JobKind, mode: str, prompt: Prompt, max_new_tokens: int = 0, after: str | None = None
    ) -> str:
        hello = self.capabilities[side.name]
        answered = None if isinstance(hello, Exception) else hello
        routing = kind == "score" and self.opened.contract.asks_for_routing
        job = make_job(
            side.spec, answered, self.models, side.model, side.config, kind, mode, prompt, max_new_tokens, after, routing,
            self._facts(side),
        )  # fmt: skip
        references = {reference_name(against) for against in ("", *self.opened.contract.others)}
        kept = side.name in references or self._names_its_build(side, answered)
        if job.key not in self.jobs or kept:
            self.jobs[job.key] = replace(job, is_kept=kept)
        return job.key


def matrix_cells(opened: OpenContract) -> list[Cell]:
    """Every cell of the contract, without its pairs.

    Raises ContractError where a candidate or a gate has none: what never runs can never fail.
    """
    cells = list(_cells(opened))
    faults = [
        ContractError(
            f"the candidate {name!r} has no cell in the matrix, so it would never run",
            where=opened.where("candidates", name),
            remedy="widen its `only` or the matrix, or take it out",
        )
        for name in opened.contract.candidates
        if not any(cell.candidate == name for cell in cells)
    ]
    faults += [
        ContractError(
            f"the gate {gate.id!r} selects no cell of the matrix, so it can never fail",
            where=opened.where("gates", index, "where"),
            remedy="correct its `where` or widen the matrix",
        )
        for index, gate in enumerate(opened.contract.gates)
        if not any(gate.selects(cell.axes) for cell in cells)
    ]
    raise_all(faults)
    return cells


def _selected(opened: OpenContract, only: str) -> list[Cell]:
    cells = matrix_cells(opened)
    chosen = [cell for cell in cells if _is_selected(cell, only)]
    if not chosen:
        rest = f"\n    and {len(cells) - SHOWN} more" if len(cells) > SHOWN else ""
        known = "\n    ".join(cell.id for cell in cells[:SHOWN]) + rest
        text = f"no cell matches {only!r}, so nothing would be compared; there are\n    {known}"
        raise ContractError(text, where="--only", remedy=f"give a glob of their ids, such as '{cells[0].candidate}/*'")
    return chosen


def _is_selected(cell: Cell, only: str) -> bool:
    return fnmatch.fnmatchcase(cell.id, only)


def _cells(opened: OpenContract) -> Iterable[Cell]:
    contract = opened.contract
    matrix = contract.matrix
    for name, use in contract.candidates.items():
        for model in matrix.model or contract.models:
            # `only` may widen a candidate beyond the matrix: a control needs no quantized file, say.
            for quantization in use.only.quantization or matrix.quantization:
                for mode in use.only.mode or matrix.mode:
                    for isa in _instruction_sets(use, matrix, (name, model, quantization, mode)):
                        compared_with = _reference_name(opened, name, mode, isa)
                        cell = Cell(name, model, quantization, mode, isa, compared_with, f"{name} ({use.engine})")
                        yield cell
                        yield from _against_others(contract, cell)


def _against_others(contract: Contract, cell: Cell) -> Iterable[Cell]:
    """The same against each further reference that a gate names for it; a candidate against itself has no other side."""
    if cell.mode == "self" or cell.is_between:
        return
    for name, use in contract.others.items():
        further = replace(cell, against=name, reference_name=f"{name} ({use.engine})")
        if any(gate.selects(further.axes) for gate in contract.gates):
            yield further


def _instruction_sets(use: Candidate, matrix: Matrix, place: tuple[str, str, str, str]) -> list[str]:
    """Those of the matrix that a candidate is wanted on at one place of it, then the pairs of them."""
    axes = dict(zip(AXES, place, strict=False))
    wanted = [isa for isa in matrix.isa if use.only.selects({**axes, "isa": isa})]
    # an engine's own decode against its own prefill has no other side
    pairs = {} if axes["mode"] == "self" else pairs_of(matrix)
    return [*wanted, *(label for label, pair in pairs.items() if set(pair) <= set(wanted))]


def _reference_name(opened: OpenContract, candidate: str, mode: str, isa: str) -> str:
    if BETWEEN in isa:
        return f"{candidate} on {isa.partition(BETWEEN)[0]}"
    return f"{candidate} (its own prefill)" if mode == "self" else opened.contract.reference.engine
