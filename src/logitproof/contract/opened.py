"""A contract with its file, its lines and its suites, checked against what it names: engines, options, instruction sets."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from logitproof import catalog
from logitproof.contract.arithmetic import arithmetic_of
from logitproof.contract.contract import ORIGINAL, Contract, EngineUse, Filter, Mode, pairs_of
from logitproof.contract.isa import INSTRUCTION_SETS, NATIVE, pinned
from logitproof.contract.suite import Suite, open_suite, suite_file
from logitproof.errors import ContractError, did_you_mean, raise_all
from logitproof.files.yaml import place, read_yaml
from logitproof.files.yaml_text import Lines
from logitproof.weights.hub import located, may_download


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
    suites, faults = _open_suites(contract, path, lines)
    opened = OpenContract(path, contract, lines, suites)
    faults += [*_engine_faults(opened), *_instruction_set_faults(opened), *_name_faults(opened)]
    for fault in faults:
        fault.remedy = fault.remedy or CORRECT
    raise_all(faults)
    _fetch(opened)
    return opened


def _open_suites(contract: Contract, path: Path, lines: Lines) -> tuple[tuple[Suite, ...], list[ContractError]]:
    """The suites that can be read, and what is wrong with the others; a suite that stands twice counts its prompts twice."""
    suites, faults, files = [], list[ContractError](), set[Path]()
    for index, name in enumerate(contract.suites):
        where = place(path, lines, "suites", index)
        if (file := suite_file(name, path.parent)) in files:
            remedy = "take one of the two out: its prompts would count twice"
            faults.append(ContractError(f"the suite {name!r} stands twice", where=where, remedy=remedy))
        files.add(file)
        try:
            suites.append(open_suite(name, path.parent, where=where))
        except ContractError as error:
            faults.append(error)
    return tuple(suites), faults


CORRECT = "correct it; see docs/contract.md"
KNOWN_ISA = "correct it; docs/isa.md names them"
HANDED = "options"
"""The option of an engine whose entries are handed to a program of its user's."""


def with_options(opened: OpenContract, candidate: str, options: Mapping[str, Any]) -> OpenContract:
    """The contract with options of one candidate over its own; raises ContractError of one that is not there.

    What the engine itself has no name for goes to the program that it runs, where it hands options on.
    """
    candidates = opened.contract.candidates
    if candidate not in candidates:
        names = ", ".join(candidates)
        raise ContractError(f"no candidate is called {candidate!r}", where=str(opened.path), remedy=f"there are {names}")
    use = candidates[candidate]
    known = catalog.find("engines", use.engine).option_names
    handed = {name: value for name, value in options.items() if name not in known} if HANDED in known else {}
    own = {name: value for name, value in options.items() if name not in handed}
    if handed:
        before = own.get(HANDED, use.options.get(HANDED)) or {}
        own[HANDED] = {**before, **handed}
    changed = use.model_copy(update={"options": {**use.options, **own}})
    contract = opened.contract.model_copy(update={"candidates": {**candidates, candidate: changed}})
    other_options = replace(opened, contract=contract)
    raise_all(list(_engine_faults(other_options)))
    return other_options


def _fetch(opened: OpenContract) -> None:
    """Fetch the hub's models that the matrix reads, where the command was asked to."""
    if not may_download():
        return
    contract = opened.contract
    labels = {ORIGINAL, *contract.matrix.quantization, *([contract.witness.weights] if contract.witness else [])}
    for name in contract.matrix.model or contract.models:
        for label, text in contract.models[name].items():
            if label in labels:
                located(text, opened.folder, where=opened.where("models", name, label))


def read_contract(path: Path) -> tuple[Contract, Lines]:
    """A contract by itself, without the suites and the engines that it names, and its lines."""
    contract, lines = read_yaml(path, Contract, "contract", command="`logitproof new` writes one to start from")
    return _every_label(contract), lines


def _every_label(contract: Contract) -> Contract:
    """Where no model has an original and no quantization is named, all are meant: published files may be all that there is."""
    labels = list(dict.fromkeys(label for files in contract.models.values() for label in files))
    if "quantization" in contract.matrix.model_fields_set or ORIGINAL in labels:
        return contract
    matrix = contract.matrix.model_copy(update={"quantization": labels})
    return contract.model_copy(update={"matrix": matrix})


def _engine_faults(opened: OpenContract) -> Iterator[ContractError]:
    named = opened.contract.references
    first = ("references", next(iter(named))) if isinstance(named, dict) and named else ("reference",)
    uses: list[tuple[tuple[str, ...], EngineUse]] = [(first, opened.contract.reference)]
    uses += [(("references", name), use) for name, use in opened.contract.others.items()]
    uses += [(("candidates", name), use) for name, use in opened.contract.candidates.items()]
    for keys, use in uses:
        try:
            entry = catalog.find("engines", use.engine, where=opened.where(*keys, "engine"))
        except ContractError as error:
            yield error
            continue
        yield from _option_faults(opened, entry.name, use.options, (*keys, "options"))
        yield from _arithmetic_faults(opened, use, keys)


def _arithmetic_faults(opened: OpenContract, use: EngineUse, keys: tuple[str, ...]) -> Iterator[ContractError]:
    """A contract says how an engine computes where nobody knows it; where its class does, it cannot say otherwise."""
    known = arithmetic_of(use.engine, use.options) if use.arithmetic else None
    if use.arithmetic is None or known is None:
        return
    for name in ("base", "blocks", "cache"):
        stated, true = getattr(use.arithmetic, name), getattr(known, name)
        if name in use.arithmetic.model_fields_set and stated != true:
            yield ContractError(
                f"says {name}: {stated}, and the engine {use.engine} computes with {name}: {true} by these options",
                where=opened.where(*keys, "arithmetic", name),
                remedy="take `arithmetic` out, or set the engine's options to what it says",
            )


def _option_faults(
    opened: OpenContract, engine: str, options: dict[str, Any], keys: tuple[str, ...]
) -> Iterator[ContractError]:
    known = catalog.find("engines", engine).option_names
    for option in options:
        if option not in known:
            yield ContractError(
                f"the engine {engine} has no option {option!r}{did_you_mean(option, known)}",
                where=opened.where(*keys, option),
            )


def _instruction_set_faults(opened: OpenContract) -> Iterator[ContractError]:
    """Check that each is known and could be proven, and that a pair is of two of the matrix and has a band of its own."""
    contract, known = opened.contract, [NATIVE, *INSTRUCTION_SETS]
    named: list[tuple[tuple[str, ...], str]] = [(("matrix", "isa"), isa) for isa in contract.matrix.isa]
    named += [(("candidates", name, "isa", isa), isa) for name, use in contract.candidates.items() for isa in use.isa]
    for keys, isa in named:
        if isa not in known or (isa == NATIVE and keys[0] == "candidates"):
            text = f"no instruction set is called {isa!r}{did_you_mean(isa, known)}"
            yield ContractError(text, where=opened.where(*keys), remedy=KNOWN_ISA)
    for name, use in contract.candidates.items():
        for isa, pin in use.isa.items() if use.engine in catalog.entries("engines") else ():
            yield from _option_faults(opened, use.engine, pin.options, ("candidates", name, "isa", isa, "options"))
            try:
                pinned(use.engine, pin, isa)
            except ContractError as error:
                yield ContractError(error.text, where=opened.where("candidates", name, "isa", isa), remedy=error.remedy)
    for label, pair in pairs_of(contract.matrix).items():
        where = opened.where("matrix", "isa_pairs")
        if len(set(pair)) < 2 or not set(pair) <= set(contract.matrix.isa):
            remedy = "name both under `matrix: isa`"
            yield ContractError(f"{label} is not of two instruction sets of the matrix", where=where, remedy=remedy)
        # a calculated band is that of each cell that it selects; a typed one is another cell's unless it names the pair
        if not any(label in (band.where.isa or [label] if band.bound else band.where.isa or []) for band in contract.bands):
            remedy = f"add a band with `where: {{isa: {label}}}`, or `bound: calibrated`"
            yield ContractError(f"no band is of the pair {label} alone", where=where, remedy=remedy)


def _name_faults(opened: OpenContract) -> Iterator[ContractError]:
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
                    yield ContractError(
                        f"no {axis} is called {value!r}{did_you_mean(value, axes[axis])}",
                        where=opened.where(*keys, axis),
                    )
    yield from _history_faults(opened)
    for index, gate in enumerate(contract.gates):
        if gate.against and gate.against not in contract.others:
            known = list(contract.references) if isinstance(contract.references, dict) else ["reference"]
            text = f"no reference is called {gate.against!r}{did_you_mean(gate.against, known)}"
            yield ContractError(text, where=opened.where("gates", index, "against"))
    for index, gate in enumerate(contract.gates):
        try:
            catalog.find("metrics", gate.metric, where=opened.where("gates", index, "metric"))
        except ContractError as error:
            yield error
        if not gate.is_calibrated and not math.isfinite(gate.bound):
            yield ContractError("the bound is not finite", where=opened.where("gates", index))


def _history_faults(opened: OpenContract) -> Iterator[ContractError]:
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
                text = f"no stage is called {name!r}{did_you_mean(name, stages)}"
                yield ContractError(text, where=opened.where("unblocks", index, "stages"))
    for keys, names in named:
        for name in names:
            if name not in ids:
                yield ContractError(f"no gate is called {name!r}{did_you_mean(name, ids)}", where=opened.where(*keys))
