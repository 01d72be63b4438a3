"""Checkpoints whose weights are quantized already: the reference computes with the plain matrices that they mean.

`weights/quantized` says what they mean, by each format's own document. No kernel of the format is asked.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from logitproof.errors import ContractError, Refusal
from logitproof.weights.quantized.folder import PlainTensors, plain_tensors


def opened(folder: Path) -> PlainTensors | None:
    """The tensors of a quantized folder as plain ones, None of a plain folder; refuses one that cannot be read."""
    try:
        return plain_tensors(folder)
    except ContractError as error:
        raise Refusal(error.text, field=error.where, remedy=error.remedy) from error


def state_of(plain: PlainTensors) -> dict[str, torch.Tensor]:
    """Every tensor in float32, as transformers takes them; refuses what cannot be computed."""
    try:
        return {name: torch.from_numpy(plain.array(name)) for name in plain.names if plain.is_float(name)}
    except ContractError as error:
        raise Refusal(error.text, field=error.where, remedy=error.remedy) from error


def forget(config: Any) -> Any:
    """The config as that of a plain checkpoint: transformers would ask for the format's kernels."""
    for part in (config, config.get_text_config()):
        if hasattr(part, "quantization_config"):
            del part.quantization_config
    return config
