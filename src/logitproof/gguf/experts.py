"""GGUF layouts of families with shared experts beside the chosen ones: Qwen2-MoE and GLM-4-MoE."""

from __future__ import annotations

from typing import Any

import numpy as np

from logitproof.gguf.layout import (
    ATTENTION,
    FEED_FORWARD,
    NORMS,
    QKV_BIASES,
    Config,
    Layout,
    Planned,
    common_keys,
    frame,
    layer,
)

SIGMOID = 2  # enum llama_expert_gating_func_type


def qwen2_moe(config: Config) -> Layout:
    """Qwen2-MoE: shares of the chosen experts as they are, and a shared expert behind a gate of its own."""
    if config.values.get("mlp_only_layers") or config.values.get("decoder_sparse_step", 1) != 1:
        raise config.refuse("layers without experts")
    if (
        config.values.get("norm_topk_prob")
        or config.values.get("use_sliding_window")
        or not config.values.get("qkv_bias", True)
    ):
        raise config.refuse("norm_topk_prob, sliding-window attention, or attention without biases")
    if config.head_size * config.need("num_attention_heads") != config.need("hidden_size"):
        raise config.refuse("heads that are together wider than the hidden size")
    shared = {f"ffn_{part}_shexp.weight": f"mlp.shared_expert.{part}_proj.weight" for part in ("gate", "up", "down")}
    names = NORMS | ATTENTION | QKV_BIASES | shared | {"ffn_gate_inp.weight": "mlp.gate.weight"}
    names |= {"ffn_gate_inp_shexp.weight": "mlp.shared_expert_gate.weight"}
    tensors = frame(config)
    for number in range(config.need("num_hidden_layers")):
        tensors += layer(number, names, {"ffn_gate_inp_shexp.weight": lambda arrays: arrays[0].reshape(-1)})
        tensors += stacked(number, _experts(config))
    keys = _expert_keys(config) | {"expert_shared_feed_forward_length": config.need("shared_expert_intermediate_size")}
    return Layout("qwen2moe", common_keys(config) | keys, tensors)


def glm4_moe(config: Config) -> Layout:
    """GLM-4-MoE: sigmoid routing with a correction in the choice alone, groups, and dense layers first."""
    if config.values.get("use_qk_norm"):
        raise config.refuse("use_qk_norm")
    dense, layers = config.need("first_k_dense_replace"), config.need("num_hidden_layers")
    names = ATTENTION | {"attn_norm.weight": NORMS["attn_norm.weight"], "post_attention_norm.weight": NORMS["ffn_norm.weight"]}
    if config.values.get("attention_bias"):
        names = names | QKV_BIASES
    routed = {f"ffn_{part}_shexp.weight": f"mlp.shared_experts.{part}_proj.weight" for part in ("gate", "up", "down")}
    routed |= {"ffn_gate_inp.weight": "mlp.gate.weight", "exp_probs_b.bias": "mlp.gate.e_score_correction_bias"}
    tensors = frame(config)
    for number in range(layers):
        tensors += layer(number, names | (FEED_FORWARD if number < dense else routed))
        tensors += [] if number < dense else stacked(number, _experts(config))
    keys = _expert_keys(config) | {
        "expert_shared_count": config.need("n_shared_experts"),
        "leading_dense_block_count": dense,
        "expert_gating_func": SIGMOID,
        "expert_weights_scale": float(config.need("routed_scaling_factor")),
        "expert_weights_norm": bool(config.need("norm_topk_prob")),
        "expert_group_count": config.need("n_group"),
        "expert_group_used_count": config.need("topk_group"),
        "rope.dimension_count": int(config.head_size * config.rope.get("partial_rotary_factor", 0.5)),
    }
    return Layout(
        "glm4moe", common_keys(config) | keys, tensors, left_out=(f"model.layers.{config.need('num_hidden_layers')}.",)
    )


def stacked(number: int, experts: int) -> list[Planned]:
    """The matrices of a layer's experts, stacked to (X, rows, columns)."""
    made = []
    for part in ("gate", "up", "down"):
        sources = tuple(f"model.layers.{number}.mlp.experts.{at}.{part}_proj.weight" for at in range(experts))
        made.append(Planned(f"blk.{number}.ffn_{part}_exps.weight", sources, np.stack))
    return made


def _experts(config: Config) -> int:
    """Their number, under any of its names."""
    named = (config.values.get(name) for name in ("num_local_experts", "n_routed_experts"))
    return int(next((value for value in named if value), None) or config.need("num_experts"))


def _expert_keys(config: Config) -> dict[str, Any]:
    return {
        "expert_count": _experts(config),
        "expert_used_count": config.need("num_experts_per_tok"),
        "expert_feed_forward_length": config.need("moe_intermediate_size"),
    }
