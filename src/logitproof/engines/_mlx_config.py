"""What mlx-lm reads of a config: the names from before transformers 5, and the settings that a model of it has a place for."""

from __future__ import annotations

import dataclasses
from typing import Any

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


def older_names(config: dict[str, Any]) -> dict[str, Any]:
    """What configs of transformers 5 say in other words than mlx-lm asks, in mlx-lm's words. Empty where nothing is."""
    rope, found = config.get("rope_parameters") or {}, {}
    if "rope_theta" in rope and "rope_theta" not in config:
        found["rope_theta"] = rope["rope_theta"]
    if rope.get("rope_type", "default") != "default" and not config.get("rope_scaling"):
        found["rope_scaling"] = {name: value for name, value in rope.items() if name != "rope_theta"}
    if "partial_rotary_factor" in rope and "partial_rotary_factor" not in config:
        found["partial_rotary_factor"] = rope["partial_rotary_factor"]
    if "num_local_experts" in config and "num_experts" not in config:
        found["num_experts"] = config["num_local_experts"]
    if config.get("model_type") == "qwen3_5_text":
        found["model_type"] = "qwen3_5"
    every = _interval([kind == "full_attention" for kind in config.get("layer_types") or []])
    if "linear_attention" in (config.get("layer_types") or []) and every and "full_attention_interval" not in config:
        found["full_attention_interval"] = every
    return found


def _interval(full: list[bool]) -> int | None:
    """n where every n-th layer is full, None where they stand otherwise."""
    return next((n for n in range(1, len(full) + 1) if full == [(at + 1) % n == 0 for at in range(len(full))]), None)


def settings_read(model: Any) -> set[str]:
    """The settings that the model's own `ModelArgs` has fields for, and those that say nothing about the computation."""
    holders = [model, getattr(model, "language_model", None)]
    known = {one.name for holder in holders if holder is not None for one in dataclasses.fields(holder.args)}
    return known | SAID_BY_OTHERS | IN_TRAINING
