"""The types in which weights lie on disk, read from the tensors themselves. What a file is called decides nothing."""

from __future__ import annotations

from pathlib import Path

from logitproof.files.safetensors import read_header
from logitproof.protocol.precision import Precision, coarsest, precision_of
from logitproof.weights.model import is_gguf, weight_files

COUNTS = {"gguf": {"I16", "I32", "I64"}, "safetensors": {"I64", "U64"}}
"""Types of tensors that count or point. Narrower integers of a checkpoint are packed weights."""


def stored_types(path: Path) -> set[str]:
    """The type of every tensor of a GGUF file or of the model in a folder; empty of what only its engine can read."""
    if path.is_dir():
        return {str(entry["dtype"]) for file in weight_files(path) for entry in _entries(file)}
    return _gguf_types(path) if is_gguf(path) else set()


def stored_precision(path: Path) -> Precision:
    """The coarsest type that weights at `path` lie in; float32 where nothing says it."""
    types = stored_types(path) - COUNTS["safetensors" if path.is_dir() else "gguf"]
    return coarsest(precision for name in types if (precision := precision_of(name)) is not None)


def is_quantized(path: Path) -> bool:
    """Whether any tensor lies in blocks or integers: then it is another model than the one that it was made from."""
    return stored_precision(path) == "quantized"


def _entries(file: Path) -> list[dict[str, str]]:
    return [entry for name, entry in read_header(file)[0].items() if name != "__metadata__"]


def _gguf_types(path: Path) -> set[str]:
    # Imported here because reading a contract's schema or help must not wait for it.
    from logitproof.files.gguf import GgufFile

    return {tensor.tensor_type.name for tensor in GgufFile(path).tensors}
