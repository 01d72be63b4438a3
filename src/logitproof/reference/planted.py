"""The reference in this process, with known bugs planted into it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from logitproof.errors import ContractError, EnvironmentFailed, ModelError, Refusal

PREFILL_NEEDS = ("", "outliers", "small activations", "more than 256 positions")
DECODE_NEEDS = (*PREFILL_NEEDS, "decode")


def load_reference(folder: Path, weights: Path | None = None, device: str = "cpu") -> Any:
    """The model of an HF folder in float32, eager; with the dequantized weights of a GGUF file where one is named."""
    try:
        from logitproof.reference.model import Loading, load
        from logitproof.reference.threads import fit_threads
    except ImportError as error:
        raise EnvironmentFailed(
            f"a diagnosis plants bugs in transformers: {error}", remedy="pip install 'logitproof[transformers]'"
        ) from None
    if not folder.is_dir():
        raise ContractError("is no Hugging Face folder", where=str(folder), remedy="name the original model")
    try:
        model = load(weights or folder, folder, Loading(device=device)).model
    except Refusal as refusal:
        raise ModelError(refusal.text, where=refusal.field or str(folder), remedy=refusal.remedy) from None
    fit_threads(model)
    return model


def grid(kind: Any) -> Iterator[dict[str, Any]]:
    """The default, then every other value of the grid."""
    yield {}
    for name, values in kind.grid.items():
        for value in values:
            if value != getattr(kind, name):
                yield {name: value}
