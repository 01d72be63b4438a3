"""Who is compared in a cell: engine, weights and config of both sides, worked out here and nowhere else.

The reference reads the original weights, or the candidate's where the contract says `weights: candidate`. Every engine is
given the original folder as the config of what it reads; where the original is a GGUF file, the folder that is made of its
metadata.
"""

from __future__ import annotations

from pathlib import Path

from logitproof.contract.contract import ORIGINAL, Contract
from logitproof.contract.isa import BETWEEN
from logitproof.contract.opened import OpenContract
from logitproof.errors import ContractError, ModelError
from logitproof.gguf.folder import folder_of
from logitproof.jobs.cell import Cell
from logitproof.jobs.spec import Side
from logitproof.jobs.specs import reference_name, spec_of, spec_on, use_name
from logitproof.weights.hub import absolute, find
from logitproof.weights.model import is_gguf


def sides(opened: OpenContract, cell: Cell) -> tuple[Side, Side]:
    """The contract's reference and the candidate of a cell, each with the weights that it reads."""
    label = label_read(opened.contract, cell.quantization, cell.against)
    return reference_side(opened, cell.model, label, cell.against), _candidate_on(opened, cell, cell.isa.rpartition(BETWEEN)[2])


def first_side(opened: OpenContract, cell: Cell) -> Side:
    """What a candidate is compared with where it is compared with itself: of two instruction sets, it on the first."""
    return _candidate_on(opened, cell, cell.isa.partition(BETWEEN)[0])


def source_side(opened: OpenContract, cell: Cell) -> Side:
    """The first reference as it reads the weights of a cell: the one that continues the prompts, whoever is compared."""
    return reference_side(opened, cell.model, label_read(opened.contract, cell.quantization))


def reference_side(opened: OpenContract, model: str, label: str = ORIGINAL, against: str = "") -> Side:
    """A reference of the contract on these weights, whichever it reads in a cell; the first, unless another is named."""
    spec = spec_of(opened.contract.reference_of(against), opened)
    return Side(spec, path_of(opened, model, label), config_of(opened, model), reference_name(against))


def label_read(contract: Contract, quantization: str, against: str = "") -> str:
    """The label of the weights that a reference reads in a cell of this quantization."""
    return quantization if contract.reference_of(against).weights == "candidate" else ORIGINAL


def path_of(opened: OpenContract, model: str, label: str = ORIGINAL) -> Path:
    """Where the weights of a model lie, by their label; a hub id is looked up in the cache.

    Raises ContractError where the model has none of that label.
    """
    files = opened.contract.models[model]
    if label not in files:
        raise ContractError(
            f"the model {model!r} has no file for the quantization {label!r}",
            where=opened.where("models", model),
            remedy=f"add `{label}: PATH`, or leave it out of the matrix with `only`",
        )
    return absolute(find(files[label], opened.folder))


def config_of(opened: OpenContract, model: str) -> Path | None:
    """The folder whose config and tokenizer go with every file of a model: its original, or what is made of a GGUF file.

    None where there is neither, or the file's architecture is not known: its own engine reads it all the same.
    """
    files = opened.contract.models[model]
    original = path_of(opened, model, ORIGINAL if ORIGINAL in files else next(iter(files)))
    if original.is_dir():
        return original
    try:
        return folder_of(original) if is_gguf(original) else None
    except ModelError:
        return None


def planted_in(opened: OpenContract, model: str, weights: Path) -> tuple[Path, Path | None]:
    """(folder, GGUF file or None) of the model whose weights lie at `weights`, for opening it in transformers.

    Raises ContractError of what transformers cannot read, and why.
    """
    if weights.is_dir():
        return weights, None
    if not is_gguf(weights):
        where = opened.where("models", model)
        raise ContractError("is neither a Hugging Face folder nor a GGUF file, in which bugs could be planted", where=where)
    return config_of(opened, model) or folder_of(weights), weights


def adapter_of(opened: OpenContract) -> Path | None:
    """The folder of the adapter that the first reference computes with, where it is one of PEFT's."""
    spec = spec_of(opened.contract.reference_of(""), opened)
    adapter = spec.options.get("adapter") if spec.engine == "transformers" else None
    return Path(spec.directory or ".") / str(adapter) if adapter else None


def _candidate_on(opened: OpenContract, cell: Cell, isa: str) -> Side:
    spec = spec_on(opened.contract.candidates[cell.candidate], isa, opened)
    path = path_of(opened, cell.model, cell.quantization)
    return Side(spec, path, config_of(opened, cell.model), use_name(cell.candidate, isa))
