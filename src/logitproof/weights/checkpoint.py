"""Tensors of a checkpoint folder as NumPy arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from logitproof.errors import ContractError, ModelError
from logitproof.files.causes import cause_of
from logitproof.files.safetensors import Tensors, widened
from logitproof.weights.config import read_model_json
from logitproof.weights.model import weight_files
from logitproof.weights.quantized.folder import KINDS, plain_tensors

STORED = ("BF16", "F16", "F32", *KINDS)
"""Types of tensors that are read: what is quantized is dequantized."""
Array = np.ndarray


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; ModelError where there is none."""
    return read_model_json(path)


def read_checkpoint(folder: Path) -> dict[str, Array]:
    """All tensors of the model in a folder, as float32 (exact for bfloat16 and float16), dequantized where need be."""
    if plain := plain_tensors(folder):
        for name in plain.names:
            check_stored(plain.stored(name), name, folder)
        return {name: plain.array(name) for name in plain.names}
    tensors: dict[str, Array] = {}
    for path in weight_files(folder):
        tensors |= read_tensors(path)
    return tensors


def read_tensors(path: Path) -> dict[str, Array]:
    """All tensors of one safetensors file, as float32; ModelError where it is missing, damaged or of another type."""
    try:
        tensors = Tensors(path)
        return {name: _as_float32(tensors, name) for name in tensors.names}
    except (ContractError, OSError, ValueError) as error:
        if isinstance(error, ModelError):
            raise
        raise ModelError(
            f"cannot be read: {cause_of(error)}", where=str(path), remedy="complete the download or save the model again"
        ) from error


def check_stored(kind: str, name: str, where: Path) -> None:
    """ModelError for a tensor of a type that is not read."""
    if kind not in STORED:
        remedy = "save the weights as bfloat16, float16 or float32"
        raise ModelError(f"tensor {name!r} has type {kind}", where=str(where), remedy=remedy)


def _as_float32(tensors: Tensors, name: str) -> Array:
    kind = tensors.kind(name)
    check_stored(kind, name, tensors.path)
    return widened(tensors.raw(name), kind).reshape(tensors.shape(name))
