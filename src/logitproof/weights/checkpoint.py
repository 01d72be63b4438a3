"""Tensors of a checkpoint folder as NumPy arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np

from logitproof.errors import ModelError
from logitproof.weights.config import read_model_json
from logitproof.weights.model import shards

STORED = {"F16": "<f2", "F32": "<f4"}
Array = np.ndarray


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; ModelError where there is none."""
    return read_model_json(path)


def read_checkpoint(folder: Path) -> dict[str, Array]:
    """All tensors of the folder's safetensors files, as float32 (exact for bfloat16 and float16)."""
    index = folder / "model.safetensors.index.json"
    names = shards(index) if index.is_file() else ["model.safetensors"]
    tensors: dict[str, Array] = {}
    for path in (folder / name for name in names):
        tensors |= read_tensors(path)
    return tensors


def read_tensors(path: Path) -> dict[str, Array]:
    """All tensors of one safetensors file, as float32; ModelError where it is missing, damaged or of another type."""
    try:
        found = gguf.utility.SafetensorsLocal(path).tensors
        return {name: _as_float32(tensor, path, name) for name, tensor in found.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError, RecursionError) as error:
        raise ModelError(
            f"cannot be read: {error}", where=str(path), remedy="complete the download or save the model again"
        ) from error


def _as_float32(tensor: gguf.utility.LocalTensor, path: Path, name: str) -> Array:
    raw: Array = tensor.mmap_bytes()
    if tensor.dtype == "BF16":  # the upper half of a float32
        values = (raw.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    elif tensor.dtype in STORED:
        values = raw.view(STORED[tensor.dtype]).astype(np.float32)
    else:
        raise ModelError(
            f"tensor {name!r} has type {tensor.dtype}",
            where=str(path),
            remedy="save the weights as bfloat16, float16 or float32",
        )
    return values.reshape(tensor.shape)
