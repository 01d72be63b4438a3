"""From a contract to jobs: pure data, nothing is run and nothing is loaded."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from logitproof import catalog
from logitproof.contract.contract import ORIGINAL, Candidate, EngineUse, Matrix, OpenContract, pairs_of
from logitproof.contract.isa import BETWEEN, NATIVE, pinned, unavailable
from logitproof.contract.suite import Prompt, Suite
from logitproof.errors import ContractError
from logitproof.jobs.cell import AXES, NOT_SELECTED, Cell, Pair, Unmeasured
from logitproof.jobs.job import Job, JobKind, make_job
from logitproof.jobs.needs import Needs
from logitproof.jobs.spec import Spec
from logitproof.protocol.messages import HelloResult
from logitproof.weights.model import Model, open_model

CARDS = ("cuda", "gpu", "GPU", "CUDA", "rocm", "hip")
"""How engines' option `device` begins where it names a graphics card."""


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


def specs(opened: OpenContract) -> dict[str, Spec]:
    """How to start every engine of the contract: `reference`, and each candidate by its name.

    A candidate is there once for each instruction set of the matrix that this machine can run, as `use_name` calls it.
    """
    found = {"reference": spec_of(opened.contract.reference, opened)}
    for name, use in opened.contract.candidates.items():
        for isa in opened.contract.matrix.isa:
            if not _not_here(use, isa, opened):
                found[use_name(name, isa)] = spec_of(use, opened) if isa == NATIVE else _spec_on(use, isa, opened)
    return found


def use_name(candidate: str, isa: str) -> str:
    """What a candidate is called where it is pinned."""
    return candidate if isa == NATIVE else f"{candidate} on {isa}"


def _not_here(use: Candidate, isa: str, opened: OpenContract) -> str:
    """Why a candidate cannot be measured on an instruction set, or nothing."""
    if isa == NATIVE:
        return ""
    pin = pinned(use.engine, use.isa.get(isa), isa)
    if pin is None:
        return f"the engine {use.engine} does not say how it is pinned to {isa}, nor does the candidate's `isa`"
    return unavailable(pin, opened.folder)


def _spec_on(use: Candidate, isa: str, opened: OpenContract) -> Spec:
    pin = pinned(use.engine, use.isa.get(isa), isa)
    assert pin is not None
    spec = spec_of(use, opened)
    options, emulator = {**spec.options, **pin.options}, pin.emulator
    if emulator and "argv" in catalog.find("engines", use.engine).option_names:
        # its own program is what computes, and a native interpreter would start it without the emulator
        options["argv"], emulator = [*emulator, *options["argv"]], ()
    return replace(
        spec,
        options=options,
        environment={**spec.environment, **pin.environment},
        python=pin.python or spec.python,
        emulator=emulator,
        proof=pin.proof,
        # an emulator has the instruction set, whatever the machine is
        needs=spec.needs if pin.emulator else replace(spec.needs, instruction_sets=(pin.proof.isa,)),
    )


def spec_of(use: EngineUse, opened: OpenContract) -> Spec:
    """How to start one engine of a contract."""
    device = str(use.options.get("device", ""))
    needs = Needs(gpus=int(device.startswith(CARDS)), engine=use.engine)
    return Spec(use.engine, use.options, use.environment, use.python, use.timeout, str(opened.folder), needs=needs)


def open_models(opened: OpenContract, only: str = "*") -> dict[str, Model]:
    """Check and hash every file of the models that a selected cell needs, by absolute path."""
    wanted = {(cell.model, cell.quantization) for cell in _selected(opened, only)}
    found: dict[str, Model] = {}
    witness = opened.contract.witness
    also = {ORIGINAL, witness.weights} if witness else {ORIGINAL}
    for name, quantization in sorted(wanted | {(model, label) for model, _ in wanted for label in also}):
        files = opened.contract.models[name]
        if quantization in files:
            path = (opened.folder / files[quantization]).resolve()
            found.setdefault(str(path), open_model(path, where=opened.where("models", name, quantization)))
    return found


def plan(
    opened: OpenContract,
    capabilities: Mapping[str, HelloResult | Exception],
    models: Mapping[str, Model],
    *,
    only: str = "*",
) -> Plan:
    """Jobs and cells of a contract.

    `capabilities` holds what each engine said in `hello` (by the names of `specs`), or the error that it
    died with: its cells are then still planned, so that the failure stands where the traces would.
    """
    builder = _Builder(opened, capabilities, models)
    for cell in _selected(opened, only):
        builder.add(cell)
    others = [Unmeasured(cell.id, f"{NOT_SELECTED} {only}") for cell in matrix_cells(opened) if not _is_selected(cell, only)]
    return Plan(tuple(builder.jobs.values()), tuple(builder.cells), tuple(builder.unmeasured + others), models)


class _Builder:
    """Collects jobs by key, so that what two cells share is run once."""

    def __init__(self, opened: OpenContract, capabilities: Mapping[str, Any], models: Mapping[str, Model]) -> None:
        self.opened, self.capabilities, self.models = opened, capabilities, models
        self.specs = specs(opened)
        self.jobs: dict[str, Job] = {}
        self.cells: list[Cell] = []
        self.unmeasured: list[Unmeasured] = []

    def add(self, cell: Cell) -> None:
        if reason := self._impossible(cell):
            self.unmeasured.append(Unmeasured(cell.id, reason))
            return
        pairs = []
        for suite in self.opened.suites:
            for index, prompt in enumerate(suite.prompts):
                pairs.append(self._pair(cell, suite, index, prompt))
        self.cells.append(Cell(**{**cell.__dict__, "pairs": tuple(pairs)}))

    def _impossible(self, cell: Cell) -> str:
        if self._is_the_reference(cell):
            return "its engine, options and weights are the reference's own, so a trace would be compared with itself"
        for isa in cell.isa.split(BETWEEN):
            if reason := _not_here(self.opened.contract.candidates[cell.candidate], isa, self.opened):
                return reason
        hello = self.capabilities[use_of(cell)]
        if isinstance(hello, Exception):
            return ""
        needed = {"prefill": ["prefill"], "decode": ["decode"], "self": ["prefill", "decode"], "greedy": []}[cell.mode]
        for mode in needed:
            if mode not in hello.modes:
                return f"the engine {hello.engine} does not offer {mode}"
        if cell.mode == "greedy" and not hello.generate:
            return f"the engine {hello.engine} does not offer generate"
        return ""

    def _is_the_reference(self, cell: Cell) -> bool:
        if cell.isa != NATIVE:
            return False
        same = self.specs[cell.candidate].identity() == self.specs["reference"].identity()
        return same and cell.mode == "prefill" and self._path(cell.model, cell.quantization) == self._truth(cell)

    def _truth(self, cell: Cell) -> Path:
        """The weights that the reference reads."""
        reads_candidate = self.opened.contract.reference.weights == "candidate"
        return self._path(cell.model, cell.quantization if reads_candidate else ORIGINAL)

    def _pair(self, cell: Cell, suite: Suite, index: int, prompt: Prompt) -> Pair:
        original = self._path(cell.model, ORIGINAL)
        truth = self._truth(cell)
        file = self._path(cell.model, cell.quantization)
        length = suite.continuation(prompt)
        source = self._job("reference", truth, original, "generate", "greedy", prompt, length)
        use, first = use_of(cell), use_name(cell.candidate, cell.isa.split(BETWEEN)[0])
        if cell.mode == "greedy":
            reference = (
                self._job(first, file, original, "generate", "greedy", prompt, length, source) if cell.is_between else source
            )
            candidate = self._job(use, file, original, "generate", "greedy", prompt, length, source)
        else:
            own = cell.mode == "self"
            mode = "decode" if own else cell.mode
            if own or cell.is_between:
                reference = self._job(first, file, original, "score", "prefill" if own else mode, prompt, 0, source)
            else:
                reference = self._job("reference", truth, original, "score", "prefill", prompt, 0, source)
            candidate = self._job(use, file, original, "score", mode, prompt, 0, source)
        hello = self.capabilities[use]
        asks = prompt.text is not None and not isinstance(hello, Exception) and hello.tokenize
        tokenized = self._job(use, file, original, "tokenize", "", prompt) if asks else None
        return Pair(suite.suite, index, prompt, source, reference, candidate, tokenized)

    def _path(self, model: str, quantization: str) -> Path:
        files = self.opened.contract.models[model]
        if quantization not in files:
            raise ContractError(
                f"the model {model!r} has no file for the quantization {quantization!r}",
                where=self.opened.where("models", model),
                remedy=f"add `{quantization}: PATH`, or leave it out of the matrix with `only`",
            )
        return (self.opened.folder / files[quantization]).resolve()

    def _job(
        self,
        use: str,
        model: Path,
        original: Path,
        kind: JobKind,
        mode: str,
        prompt: Prompt,
        max_new_tokens: int = 0,
        after: str | None = None,
    ) -> str:
        hello = self.capabilities[use]
        said = None if isinstance(hello, Exception) else hello
        config = original if original.is_dir() else None
        job = make_job(self.specs[use], said, self.models, model, config, kind, mode, prompt, max_new_tokens, after)
        self.jobs.setdefault(job.key, job)
        return job.key


def matrix_cells(opened: OpenContract) -> list[Cell]:
    """Every cell of the contract, without its pairs.

    Raises ContractError where a candidate or a gate has none: what never runs can never fail.
    """
    cells = list(_cells(opened))
    for name in opened.contract.candidates:
        if not any(cell.candidate == name for cell in cells):
            raise ContractError(
                f"the candidate {name!r} has no cell in the matrix, so it would never run",
                where=opened.where("candidates", name),
                remedy="widen its `only` or the matrix, or take it out",
            )
    for index, gate in enumerate(opened.contract.gates):
        if not any(gate.where.selects(cell.axes) for cell in cells):
            raise ContractError(
                f"the gate {gate.id!r} selects no cell of the matrix, so it can never fail",
                where=opened.where("gates", index, "where"),
                remedy="correct its `where` or widen the matrix",
            )
    return cells


def _selected(opened: OpenContract, only: str) -> list[Cell]:
    cells = matrix_cells(opened)
    chosen = [cell for cell in cells if _is_selected(cell, only)]
    if not chosen:
        known = "\n    ".join(cell.id for cell in cells)
        raise ContractError(f"no cell matches {only!r}, so nothing would be compared; there are\n    {known}")
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
                        told = _reference_name(opened, name, mode, isa)
                        yield Cell(name, model, quantization, mode, isa, told, f"{name} ({use.engine})")


def _instruction_sets(use: Candidate, matrix: Matrix, place: tuple[str, str, str, str]) -> list[str]:
    """Those of the matrix that a candidate is wanted on at one place of it, then the pairs of them."""
    axes = dict(zip(AXES, place, strict=False))
    wanted = [isa for isa in matrix.isa if use.only.selects({**axes, "isa": isa})]
    # an engine's own decode against its own prefill has no other side
    pairs = {} if axes["mode"] == "self" else pairs_of(matrix)
    return [*wanted, *(label for label, pair in pairs.items() if set(pair) <= set(wanted))]


def use_of(cell: Cell) -> str:
    """The candidate of a cell as it is pinned there; of a pair, the second."""
    return use_name(cell.candidate, cell.isa.rpartition(BETWEEN)[2])


def _reference_name(opened: OpenContract, candidate: str, mode: str, isa: str) -> str:
    if BETWEEN in isa:
        return f"{candidate} on {isa.partition(BETWEEN)[0]}"
    return f"{candidate} (its own prefill)" if mode == "self" else opened.contract.reference.engine
