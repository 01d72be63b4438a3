"""config.json of a model folder: its numbers are looked at before anything is built of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from logitproof.errors import ModelError
from logitproof.files.untrusted import read_object

REMEDY = "take config.json from the model's publisher"
LIMITS = {
    "vocab_size": 1 << 24,
    "hidden_size": 1 << 20,
    "intermediate_size": 1 << 24,
    "moe_intermediate_size": 1 << 24,
    "num_hidden_layers": 1 << 12,
    "num_attention_heads": 1 << 14,
    "num_key_value_heads": 1 << 14,
    "head_dim": 1 << 16,
    "num_experts": 1 << 14,
    "num_local_experts": 1 << 14,
    "n_routed_experts": 1 << 14,
    "num_experts_per_tok": 1 << 14,
    "max_position_embeddings": 1 << 40,
    "linear_num_key_heads": 1 << 14,
    "linear_num_value_heads": 1 << 14,
    "linear_key_head_dim": 1 << 16,
    "linear_value_head_dim": 1 << 16,
    "linear_conv_kernel_dim": 1 << 10,
}
"""What sizes arrays and loops, and the most that it can be: some ten times the largest model that was published."""


def read_model_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file of a model folder; ModelError where there is none."""
    return read_object(path, remedy="give a complete Hugging Face model folder", kind=ModelError, halves=False)


def read_config(folder: Path) -> dict[str, Any]:
    """config.json of a folder, every size in it a number that can be one; ModelError names file and field."""
    path = folder / "config.json"
    config = read_model_json(path)
    _check(config, path, "")
    if isinstance(inner := config.get("text_config"), dict):
        _check(inner, path, "text_config.")
    elif inner is not None:
        raise ModelError(f"is {inner!a}, not an object", where=f"{path}: text_config", remedy=REMEDY)
    return config


def architecture_of(config: Mapping[str, Any], path: Path) -> str:
    """The first of the `architectures` of a config.json, empty where it names none."""
    named = config.get("architectures") or [""]
    if not isinstance(named, list) or not isinstance(named[0], str):
        raise ModelError(f"is {named!a}, not a list of names", where=f"{path}: architectures", remedy=REMEDY)
    return named[0]


def _check(config: Mapping[str, Any], path: Path, prefix: str) -> None:
    for name, limit in LIMITS.items():
        value = config.get(name)
        # A few families give one number a layer.
        for number in value[: 1 << 12] if isinstance(value, list) else [] if value is None else [value]:
            if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number <= limit:
                raise ModelError(f"is {value!a:.60}, not 0 to {limit}", where=f"{path}: {prefix}{name}", remedy=REMEDY)
