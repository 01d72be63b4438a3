"""What mlx-lm reads of a config: the names from before transformers 5, and the settings that a model of it has a place for."""

from __future__ import annotations

import dataclasses
from typing import Any

from logitproof.engines._older_config import older_names

SAID_BY_OTHERS = {
    "architectures",
    "dtype",
    "torch_dtype",
    "transformers_version",
    "eos_token_id",
    "bos_token_id",
    "pad_token_id",
}
"""Settings that say nothing about the computation, or that the tokenizer and the loader read."""
IN_TRAINING = {
    "attention_dropout",
    "initializer_range",
    "use_cache",
    "output_router_logits",
    "router_aux_loss_coef",
    "pretraining_tp",
}


def names_for_mlx(config: dict[str, Any]) -> dict[str, Any]:
    """The older names of what a config says, and a text-only Qwen3.5 as mlx-lm knows it. Empty where nothing is to be said."""
    names = older_names(config)
    if config.get("model_type") == "qwen3_5_text":
        names["model_type"] = "qwen3_5"
    return names


def settings_read(model: Any) -> set[str]:
    """The settings that the model's own `ModelArgs` has fields for, and those that say nothing about the computation."""
    holders = [model, getattr(model, "language_model", None)]
    known = {setting.name for holder in holders if holder is not None for setting in dataclasses.fields(holder.args)}
    return known | SAID_BY_OTHERS | IN_TRAINING
