"""The reference in this process, with known bugs planted into it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from logitproof.errors import ContractError, EnvironmentFailed, ModelError

PREFILL_NEEDS = ("", "outliers", "small activations", "more than 256 positions")
DECODE_NEEDS = (*PREFILL_NEEDS, "decode")


def load_reference(folder: Path, weights: Path | None = None) -> Any:
    """The model of an HF folder in float32, eager, offline; with the dequantized weights of a GGUF file where one is named."""
    try:
        import torch
        import transformers

        from logitproof.reference.threads import fit_threads
    except ImportError as error:
        raise EnvironmentFailed(
            f"a diagnosis plants bugs in transformers: {error}", remedy="pip install 'logitproof[transformers]'"
        ) from None
    if not folder.is_dir():
        raise ContractError("is no Hugging Face folder", where=str(folder), remedy="name the original model")
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    options = {"attn_implementation": "eager", "experts_implementation": "eager", "dtype": torch.float32}
    try:
        if weights is not None:
            from logitproof.reference import checkpoint

            settings = checkpoint.read_config(folder)
            model = checkpoint.load_gguf(weights, settings, options.pop("dtype"), **options)[0].eval()
        else:
            model = transformers.AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, **options).eval()
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot be loaded: {error}", where=str(folder)) from None
    fit_threads(model)
    return model


def grid(kind: Any) -> Iterator[dict[str, Any]]:
    """The default, then every other value of the grid."""
    yield {}
    for name, values in kind.grid.items():
        for value in values:
            if value != getattr(kind, name):
                yield {name: value}
