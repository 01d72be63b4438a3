"""What a contract lists and no cell reads, and which axes of the matrix it leaves to their defaults: both are told."""

from __future__ import annotations

from logitproof.contract.contract import ORIGINAL, Matrix
from logitproof.contract.opened import OpenContract
from logitproof.jobs.plan import matrix_cells

AXES = ("quantization", "mode", "isa")


def unread_weights(opened: OpenContract) -> list[tuple[str, str]]:
    """Model and label of every file under `models` that no cell of the matrix and no witness reads."""
    witness = {opened.contract.witness.weights} if opened.contract.witness else set()
    read = {(cell.model, cell.quantization) for cell in matrix_cells(opened)}
    models = {cell.model for cell in matrix_cells(opened)}
    return [
        (name, label)
        for name, files in opened.contract.models.items()
        for label in files
        if (name, label) not in read and not (name in models and label in {ORIGINAL, *witness})
    ]


def unread_in_words(opened: OpenContract) -> list[str]:
    """A sentence for each of them."""
    return [
        f"{opened.contract.models[name][label]} is listed as {label} of {name}, and no cell reads it: it was not compared"
        for name, label in unread_weights(opened)
    ] + [
        f"{name} is listed as a reference, and no gate compares with it: nothing was compared with it"
        for name in unread_references(opened)
    ]


def defaults_in_words(matrix: Matrix) -> str:
    """The axes that the contract does not name, with what they are then; nothing where it names them all."""
    left = [axis for axis in AXES if axis not in matrix.model_fields_set]
    return ", ".join(f"{axis} {' and '.join(getattr(matrix, axis))}" for axis in left)


def unread_references(opened: OpenContract) -> list[str]:
    """References that the contract lists and that no gate compares anything with."""
    read = {cell.against for cell in matrix_cells(opened)}
    return [name for name in opened.contract.others if name not in read]
