"""How to start the engines of a contract, each candidate once for every instruction set that it is pinned to."""

from __future__ import annotations

from dataclasses import replace

from logitproof import catalog
from logitproof.contract.contract import Candidate, EngineUse
from logitproof.contract.isa import BETWEEN, NATIVE, Lacks, pinned, unavailable
from logitproof.contract.opened import OpenContract
from logitproof.jobs.cell import Cell
from logitproof.jobs.needs import Needs
from logitproof.jobs.spec import Spec

REFERENCE = "reference"
"""The reference's name among the engines of a contract."""
CARDS = ("cuda", "gpu", "GPU", "CUDA", "rocm", "hip")
"""How engines' option `device` begins where it names a graphics card."""


def specs(opened: OpenContract, lacks: Lacks | None = None) -> dict[str, Spec]:
    """How to start every engine of the contract: `reference`, further ones as `reference NAME`, and each candidate by its name.

    A candidate is there once for each instruction set of the matrix that this machine can run, as `use_name` calls it; where
    other machines run engines, that these do not lack.
    """
    by_name = {REFERENCE: spec_of(opened.contract.reference, opened)}
    for name, reference in opened.contract.others.items():
        by_name[reference_name(name)] = spec_of(reference, opened)
    for name, use in opened.contract.candidates.items():
        for isa in opened.contract.matrix.isa:
            if not not_here(use, isa, opened, lacks):
                by_name[use_name(name, isa)] = spec_on(use, isa, opened)
    return by_name


def reference_name(against: str) -> str:
    """What a reference is called among the engines of a contract."""
    return f"{REFERENCE} {against}" if against else REFERENCE


def use_name(candidate: str, isa: str) -> str:
    """What a candidate is called where it is pinned."""
    return candidate if isa == NATIVE else f"{candidate} on {isa}"


def not_here(use: Candidate, isa: str, opened: OpenContract, lacks: Lacks | None = None) -> str:
    """Why a candidate cannot be measured on an instruction set, or nothing."""
    if isa == NATIVE:
        return ""
    pin = pinned(use.engine, use.isa.get(isa), isa)
    if pin is None:
        return f"the engine {use.engine} does not say how it is pinned to {isa}, nor does the candidate's `isa`"
    return unavailable(pin, opened.folder, lacks)


def spec_on(use: Candidate, isa: str, opened: OpenContract) -> Spec:
    """How to start a candidate as it is pinned to an instruction set."""
    if isa == NATIVE:
        return spec_of(use, opened)
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
    return Spec(use.engine, use.options, use.environment, use.python, use.timeout, str(opened.folder), needs=needs,
        deadline=use.deadline, inherit=tuple(use.inherit), tokenizer=use.tokenizer,
    )  # fmt: skip


def use_of(cell: Cell) -> str:
    """The candidate of a cell as it is pinned there; of a pair, the second."""
    return use_name(cell.candidate, cell.isa.rpartition(BETWEEN)[2])
