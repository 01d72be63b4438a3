"""Seeded weights that keep a bug loud: a quiet residual stream, no norm of one, no bias of zero, no symmetry.

Every value has so many significant bits as its file and is no smaller than float16's least normal number, so float16
and float32 files (and bfloat16 files, where there are eight bits) hold the very same model.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from shape import Shape

QUIET = 0.02
"""Root mean square of the residual stream: small enough for an eps of 1e-6 to be seen, far from float16's limits."""
LOUD, LIFT = 2.0**14, 2.0**8
"""What the loud channel of a feed-forward block and the residual stream around it are multiplied by."""
DEEP = 8
"""Units of an expert of GPT-OSS whose gates lie far below the clamp."""
SPREAD = {"lm_head": 2.5, "gate": 2.0, "router": 2.0, "in_proj_b": 1.5, "in_proj_a": 1.5, "shared_expert_gate": 2.0}
LESS_ONE = ("gemma", "gemma2", "gemma3_text", "qwen3_5_text", "qwen3_5_moe_text", "qwen3_next")
"""Families whose norms multiply by one more than what is stored."""

NORMED_HEADS = (
    "qwen3", "qwen3_moe", "qwen3_5_text", "gemma3_text", "olmo2", "olmo3", "exaone4", "hunyuan_v1_dense", "apertus",
    "minimax_m2", "lfm2", "qwen3_next", "qwen3_5_moe_text", "gemma3n_text", "gemma4_text",
)  # fmt: skip
"""Families that normalize q and k, whose projections are then as quiet as the residual stream."""
SLOPES = {"alpha_n": 0.7, "alpha_p": 0.5, "beta": 0.5, "eps": -0.03}
"""Parameters of xIELU: an eps so far below zero that where it begins is heard."""
BEHIND = {
    **dict.fromkeys(
        ("gemma2", "gemma3_text", "olmo2", "olmo3", "exaone4"), ("post_attention_layernorm", "post_feedforward_layernorm")
    ),
    "gemma3n_text": ("post_per_layer_input_norm",),
    "glm4": ("post_self_attn_layernorm", "post_mlp_layernorm"),
    "gemma4_text": ("post_attention_layernorm", "post_feedforward_layernorm", "post_per_layer_input_norm"),
}
"""Norms of what is added to the residual stream, by family."""
POST_NORMED = ("olmo2", "olmo3", "exaone4")
"""Families that normalize what a block adds and have no norm before it."""


def weights(shape: Shape, tensors: dict[str, tuple[int, ...]], config: Any) -> dict[str, np.ndarray]:
    """float32 values of every tensor, by name."""
    random = np.random.default_rng(shape.seed)
    made = {name: _values(name, size, config, random) for name, size in sorted(tensors.items())}
    if shape.outliers:
        for name, values in made.items():
            _loud_channel(name, values)
    return {name: exact(values, shape.bits) for name, values in made.items()}


def _loud_channel(name: str, values: np.ndarray) -> None:
    """The first channel of a feed-forward block, beyond 65504 at some tokens, is made small again on the way down.

    Weights stay normal numbers of float16, so what the channel adds is large, and all the rest is made as large.
    """
    if name.endswith(("embed_tokens.weight", "o_proj.weight", "down_proj.weight")):
        values *= LIFT
    if name.endswith("mlp.gate_proj.weight"):
        values[0] *= 4
    if name.endswith("mlp.up_proj.weight"):
        values[0] *= LOUD
    if name.endswith("mlp.down_proj.weight"):
        values[:, 0] = np.copysign(2.0**-14, values[:, 0])


def exact(values: np.ndarray, bits: int) -> np.ndarray:
    """Rounded to so many significant bits, magnitudes below 2^-14 pushed up to it."""
    mantissa, exponent = np.frexp(values)
    rounded = np.ldexp(np.round(mantissa * 2**bits) / 2**bits, exponent)
    return np.where(np.abs(rounded) < 2.0**-14, np.copysign(2.0**-14, values), rounded).astype(np.float32)


def _values(name: str, size: tuple[int, ...], config: Any, random: np.random.Generator) -> np.ndarray:
    noise = random.standard_normal(size)
    leaf = name.removesuffix(".weight").rpartition(".")[2]
    if "norm" in leaf:
        return _norm(name, leaf, noise, config)
    if config.model_type == "gpt_oss" and ".experts." in name:
        return _clamped_experts(leaf, noise, size)
    if name.endswith("e_score_correction_bias"):
        return 0.15 * noise
    if name.endswith("bias") or leaf == "sinks":
        return noise * (QUIET if leaf.startswith(("o_proj", "down_proj")) or ".o_proj" in name else 0.4)
    if ".act_fn." in name:
        return SLOPES[leaf] + 0.15 * noise * SLOPES[leaf]
    if leaf == "A_log":
        return np.log(random.uniform(0.05, 2.0, size))
    if leaf == "conv1d":
        return 0.5 * noise + 0.3
    if leaf in ("layer_scalar", "per_expert_scale", "scale", "correct_output_scale"):
        return (_embedding_root(config) if leaf == "scale" else 1.0) * np.clip(1 + 0.3 * noise, 0.4, 2.0)
    if leaf == "embed_tokens_per_layer":
        return noise * config.hidden_size_per_layer_input**-0.5
    if leaf == "embed_tokens":
        return _embedding(noise, config)
    return noise * _spread(leaf, config) * size[-1] ** -0.5


def _norm(name: str, leaf: str, noise: np.ndarray, config: Any) -> np.ndarray:
    """Weights around one, or around the quiet level where the norm's output is added to the residual stream."""
    plus_one = config.model_type in LESS_ONE and ".linear_attn." not in name
    level = 1.0
    if leaf in BEHIND.get(config.model_type, ()):
        level = QUIET
    if config.model_type in ("gemma3n_text", "gemma4_text") and leaf == "q_norm":
        level = 0.4  # its scores are not divided by the root of the head size
    if name in ("model.norm.weight", "model.embedding_norm.weight") and config.tie_word_embeddings:
        level = 1.0 / _embedding_level(config) * 0.4
    values = level * np.clip(1 + 0.35 * noise, 0.3, 2.0)
    return values - 1 if plus_one else values


def _embedding(noise: np.ndarray, config: Any) -> np.ndarray:
    """Tokens of unequal loudness, most of them quiet."""
    loudness = np.geomspace(0.4, 2.5, len(noise))[:, None]
    return noise * _embedding_level(config) * np.random.default_rng(7).permuted(loudness, axis=0)


def _embedding_level(config: Any) -> float:
    return QUIET / config.hidden_size**0.5 if config.model_type.startswith("gemma") else QUIET


def _embedding_root(config: Any) -> float:
    """What a router of Gemma 4 divides its input by, so that its logits are as apart as others'."""
    return float(config.hidden_size**0.5)


def _spread(leaf: str, config: Any) -> float:
    """Standard deviation of a matrix's outputs for inputs of one."""
    if leaf == "modality_router":
        return float(config.hidden_size)  # its input is divided by as much
    if leaf in ("prediction_coefs", "correction_coefs"):
        return 0.5  # with larger ones every stream is soon a mixture of all, and rounding is loud
    behind = config.model_type in BEHIND
    normed_heads = config.model_type in NORMED_HEADS
    post_normed = config.model_type in POST_NORMED
    if leaf in ("q_proj", "k_proj"):
        return 1.0 if post_normed else 0.02 if normed_heads else 1.3
    if leaf in ("o_proj", "out_proj"):
        return 1.0 if behind else 2 * QUIET
    if leaf in ("gate_proj", "up_proj") and post_normed:
        return 1.2 / QUIET
    if leaf in ("down_proj", "output_linear", "w2"):
        return 1.0 if behind and not post_normed else 2.5 * QUIET
    return {"lm_head": 2.5, "gate": 2.0, "router": 2.0, "in_proj_b": 1.5, "in_proj_a": 1.5, "shared_expert_gate": 2.0}.get(
        leaf, 1.2
    )


def _clamped_experts(leaf: str, noise: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """Experts of GPT-OSS, stored [X, in, out]: some gates and ups pass the clamp of 7.

    The gates of the first units lie far below it, where SwiGLU gives almost nothing: only what is wrong there passes,
    and large rows of the down projection let it be heard.
    """
    if leaf == "gate_up_proj":
        values = 5.0 * noise * size[1] ** -0.5
        values[:, :, : 2 * DEEP : 2] *= 0.2
        return values
    if leaf == "gate_up_proj_bias":
        values = 0.4 * noise
        values[:, : 2 * DEEP : 2] = -13 + 0.5 * noise[:, : 2 * DEEP : 2]
        return values
    if leaf == "down_proj":
        values = QUIET / 20 * noise * size[1] ** -0.5
        values[:, :DEEP] *= 300
        return values
    return QUIET * noise
