"""GGUF layout of Gemma 4: embeddings for every layer, keys and values that later layers share, two sizes of heads.

Facts are llama.cpp's (its converter and `src/models/gemma4.cpp`). What it would compute otherwise than the config says is
refused.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from logitproof.gguf.layout import (
    ATTENTION,
    FEED_FORWARD,
    QK_NORMS,
    Config,
    Layout,
    Planned,
    common_keys,
    frame,
    layer,
)
from logitproof.gguf.windowed import GEMMA_NORMS
from logitproof.weights.checkpoint import Array

FULL, WINDOWED = "full_attention", "sliding_attention"
NOT_ROTATED = 1e30
"""What a frequency is divided by that turns nothing."""
PER_LAYER = {
    "inp_gate.weight": "per_layer_input_gate.weight",
    "proj.weight": "per_layer_projection.weight",
    "post_norm.weight": "post_per_layer_input_norm.weight",
}
EXPERTS = {
    "ffn_gate_inp.weight": "router.proj.weight",
    "ffn_gate_inp.scale": "router.scale",
    "ffn_gate_up_exps.weight": "experts.gate_up_proj",
    "ffn_down_exps.weight": "experts.down_proj",
    "ffn_down_exps.scale": "router.per_expert_scale",
    "pre_ffw_norm_2.weight": "pre_feedforward_layernorm_2.weight",
    "post_ffw_norm_1.weight": "post_feedforward_layernorm_1.weight",
    "post_ffw_norm_2.weight": "post_feedforward_layernorm_2.weight",
}


def gemma4(config: Config) -> Layout:
    """Gemma 4: its norms store the weight itself, and each layer ends with a factor of its own."""
    kinds, shared = config.need("layer_types"), int(config.values.get("num_kv_shared_layers") or 0)
    _refuse(config, kinds, shared)
    per_layer, own = int(config.values.get("hidden_size_per_layer_input") or 0), len(kinds) - shared
    wide, size = int(of_full(config.values, "head_dim")), config.head_size
    rotated = config.need("rope_parameters")[FULL].get("partial_rotary_factor", 1.0)
    tensors = [Planned("rope_freqs.weight", (), lambda _: frequencies(wide, rotated)), *frame(config)]
    if per_layer:
        tensors += [
            Planned("per_layer_token_embd.weight", ("model.embed_tokens_per_layer.weight",)),
            Planned("per_layer_model_proj.weight", ("model.per_layer_model_projection.weight",)),
            Planned("per_layer_proj_norm.weight", ("model.per_layer_projection_norm.weight",)),
        ]
    names = GEMMA_NORMS | FEED_FORWARD | {"layer_output_scale.weight": "layer_scalar"} | (PER_LAYER if per_layer else {})
    names |= EXPERTS if config.values.get("enable_moe_block") else {}
    for number, kind in enumerate(kinds):
        tensors += layer(number, names | _attention(config, kind, has_own=number < own))
    return Layout("gemma4", _keys(config, kinds, (wide, size), shared), tensors)


def frequencies(size: int, rotated: float) -> Array:
    """Divisors [D/2] of the frequencies of a head of which a part is rotated: the rest turns by nothing."""
    turned = int(size * rotated / 2)
    return np.asarray([1.0] * turned + [NOT_ROTATED] * (size // 2 - turned), np.float32)


def of_full(values: dict[str, Any], name: str) -> Any:
    """A setting of the layers without a window: their own where the config has one for them, else that of all."""
    by_layer = values.get("per_layer_config") or {}
    held = [layer[name] for layer in by_layer.values() if isinstance(layer, dict) and name in layer]
    if held:
        return held[0]
    if name == "head_dim":
        return values.get("global_head_dim") or (512 if not by_layer else values[name])
    wide = values.get("num_global_key_value_heads") if values.get("attention_k_eq_v") else None
    return wide or values[name]


def _refuse(config: Config, kinds: list[str], shared: int) -> None:
    values, rope = config.values, config.need("rope_parameters")
    if values.get("attention_bias") or values.get("use_bidirectional_attention") == "all":
        raise config.refuse("attention_bias, or attention in both directions")
    if rope[FULL].get("rope_type") != "proportional" or rope[FULL].get("factor", 1.0) != 1.0:
        raise config.refuse(f"rotary parameters {rope[FULL]} of layers without a window")
    if rope[WINDOWED].get("rope_type", "default") != "default" or rope[WINDOWED].get("partial_rotary_factor", 1.0) != 1.0:
        raise config.refuse(f"rotary parameters {rope[WINDOWED]} of layers with a window")
    if shared and kinds[: len(kinds) - shared][-2:] != [WINDOWED, FULL]:
        raise config.refuse(
            "shared keys and values of other layers than the last two that have their own, with a window and without"
        )
    config.without_effect("vocab_size_per_layer_input")  # where no layer has embeddings
    if values.get("hidden_size_per_layer_input") and values.get("vocab_size_per_layer_input") != config.need("vocab_size"):
        raise config.refuse("a vocabulary of its own for the embeddings of every layer")


def _attention(config: Config, kind: str, *, has_own: bool) -> dict[str, str]:
    """Tensors of a layer's attention: one that shares keys and values has none, and they may be one matrix."""
    keys_are_values = bool(config.values.get("attention_k_eq_v")) and kind == FULL
    left_out = {"attn_v.weight"} if keys_are_values else set()
    left_out |= set() if has_own else {"attn_k.weight", "attn_v.weight", "attn_k_norm.weight"}
    return {name: source for name, source in (ATTENTION | QK_NORMS).items() if name not in left_out}


def _keys(config: Config, kinds: list[str], sizes: tuple[int, int], shared: int) -> dict[str, Any]:
    rope, (wide, size), values = config.need("rope_parameters"), sizes, config.values
    plain = values | {
        "hidden_act": config.need("hidden_activation"),
        "rope_parameters": {"rope_theta": rope[FULL]["rope_theta"]},
    }
    width, own = config.need("intermediate_size"), len(kinds) - shared
    heads, fewer = config.need("num_key_value_heads"), of_full(values, "num_key_value_heads")
    keys = common_keys(Config(plain, config.where), "gelu_pytorch_tanh") | {
        "attention.key_length": wide, "attention.value_length": wide,
        "attention.key_length_swa": size, "attention.value_length_swa": size,
        "attention.sliding_window": config.need("sliding_window"),
        "attention.sliding_window_pattern": [kind == WINDOWED for kind in kinds],
        "attention.shared_kv_layers": shared,
        "embedding_length_per_layer_input": int(values.get("hidden_size_per_layer_input") or 0),
        "rope.freq_base_swa": float(rope[WINDOWED]["rope_theta"]),
        "rope.dimension_count": wide, "rope.dimension_count_swa": size,
    }  # fmt: skip
    if values.get("use_double_wide_mlp") and shared:
        keys["feed_forward_length"] = [width if number < own else 2 * width for number in range(len(kinds))]
    if fewer != heads:
        keys["attention.head_count_kv"] = [fewer if kind == FULL else heads for kind in kinds]
    # a file without the key is capped at 30
    keys["final_logit_softcapping"] = float(values.get("final_logit_softcapping") or 0.0)
    if values.get("enable_moe_block"):
        keys |= {
            "expert_count": config.need("num_experts"), "expert_used_count": config.need("top_k_experts"),
            "expert_feed_forward_length": config.need("moe_intermediate_size"),
        }  # fmt: skip
    return keys
