"""The dequantized weights of a GGUF file as safetensors, under the names of the checkpoints of its family."""

from __future__ import annotations

from pathlib import Path

from logitproof.errors import EnvironmentFailed, ModelError, Refusal


def export_weights(file: Path, out: Path) -> None:
    """Write model.safetensors, or shards with their index, in float32 to the folder `out`.

    Raises ModelError of a file that cannot be loaded, EnvironmentFailed without torch.
    """
    try:
        from logitproof.reference.model import load
    except ImportError as error:
        remedy = "pip install 'logitproof[transformers]', or leave the weights out with --no-weights"
        raise EnvironmentFailed(f"weights are written with transformers: {error}", remedy=remedy) from None
    try:
        load(file).model.save_pretrained(out)
    except Refusal as refusal:
        raise ModelError(refusal.text, where=refusal.field or str(file), remedy=refusal.remedy) from None
