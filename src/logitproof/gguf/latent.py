"""GGUF layouts of latent attention (MLA): DeepSeek V2 and V3.

llama.cpp absorbs the up projections of K and V into the query and the output, so the file holds them apart, that of K
transposed, and attention has one head of keys: the latent with the rotary part behind it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from logitproof.gguf.experts import SIGMOID, stacked
from logitproof.gguf.layout import FEED_FORWARD, NORMS, Change, Config, Layout, common_keys, frame, layer

SOFTMAX = 1  # enum llama_expert_gating_func_type
SHARED = {f"ffn_{part}_shexp.weight": f"mlp.shared_experts.{part}_proj.weight" for part in ("gate", "up", "down")}


def deepseek_v2(config: Config) -> Layout:
    """DeepSeek V2 and V2-Lite: softmax routing, shares that are not normalized."""
    if config.values.get("topk_method", "greedy") != "greedy" and config.values.get("n_group", 1) > 1:
        raise config.refuse("topk_method group_limited_greedy: llama.cpp chooses groups by the sum of their two best experts")
    if config.values.get("norm_topk_prob"):
        raise config.refuse("norm_topk_prob, which transformers does not compute for DeepSeek V2")
    config.without_effect("n_group", "topk_group", "topk_method")
    keys = {"expert_gating_func": SOFTMAX}
    return _deepseek(config, keys, {})


def deepseek_v3(config: Config) -> Layout:
    """DeepSeek V3 and R1: sigmoid routing by groups, a correction in the choice alone, normalized shares."""
    keys = {
        "expert_gating_func": SIGMOID,
        "expert_weights_norm": bool(config.need("norm_topk_prob")),
        "expert_group_count": config.need("n_group"),
        "expert_group_used_count": config.need("topk_group"),
    }
    return _deepseek(config, keys, {"exp_probs_b.bias": "mlp.gate.e_score_correction_bias"})


def _deepseek(config: Config, routing: dict[str, Any], correction: dict[str, str]) -> Layout:
    if config.values.get("attention_bias") or config.values.get("rope_interleave", True) is not True:
        raise config.refuse("attention_bias, or rotary pairs as halves")
    names, changes = latent_attention(config)
    dense, experts, layers = (
        config.need("first_k_dense_replace"),
        config.need("n_routed_experts"),
        config.need("num_hidden_layers"),
    )
    routed = SHARED | correction | {"ffn_gate_inp.weight": "mlp.gate.weight"}
    tensors = frame(config)
    for number in range(layers):
        tensors += layer(number, NORMS | names | (FEED_FORWARD if number < dense else routed), changes)
        tensors += [] if number < dense else stacked(number, experts)
    keys = (
        latent_keys(config)
        | routing
        | {
            "vocab_size": config.need("vocab_size"),
            "leading_dense_block_count": dense,
            "expert_count": experts,
            "expert_used_count": config.need("num_experts_per_tok"),
            "expert_feed_forward_length": config.need("moe_intermediate_size"),
            "expert_shared_count": config.need("n_shared_experts"),
            "expert_weights_scale": float(config.need("routed_scaling_factor")),
        }
    )
    return Layout("deepseek2", keys, tensors, left_out=(f"model.layers.{layers}.",))


def latent_attention(config: Config) -> tuple[dict[str, str], dict[str, Change]]:
    """Tensors of a layer's latent attention, and what becomes of the up projection of K and V, [H · (N + D), L]."""
    heads, nope, size = (config.need(name) for name in ("num_attention_heads", "qk_nope_head_dim", "v_head_dim"))

    def parted(arrays: list[np.ndarray]) -> np.ndarray:
        return arrays[0].reshape(heads, nope + size, -1)

    names = {
        "attn_kv_a_mqa.weight": "self_attn.kv_a_proj_with_mqa.weight",
        "attn_kv_a_norm.weight": "self_attn.kv_a_layernorm.weight",
        "attn_k_b.weight": "self_attn.kv_b_proj.weight",
        "attn_v_b.weight": "self_attn.kv_b_proj.weight",
        "attn_output.weight": "self_attn.o_proj.weight",
    }
    if config.values.get("q_lora_rank"):
        names |= {
            "attn_q_a.weight": "self_attn.q_a_proj.weight",
            "attn_q_a_norm.weight": "self_attn.q_a_layernorm.weight",
            "attn_q_b.weight": "self_attn.q_b_proj.weight",
        }
    else:
        names |= {"attn_q.weight": "self_attn.q_proj.weight"}
    return names, {
        "attn_k_b.weight": lambda arrays: parted(arrays)[:, :nope].swapaxes(1, 2),
        "attn_v_b.weight": lambda arrays: parted(arrays)[:, nope:],
    }


def latent_keys(config: Config) -> dict[str, Any]:
    """Sizes of the latents, and YaRN's factor: one file key for what the config names twice."""
    latent, turned = config.need("kv_lora_rank"), config.need("qk_rope_head_dim")
    rope = dict(config.rope)
    mscale, mscale_all = rope.pop("mscale", None), rope.pop("mscale_all_dim", None)
    if mscale != mscale_all:
        raise config.refuse(f"mscale {mscale} beside mscale_all_dim {mscale_all}")
    plain = Config(config.values | {"rope_parameters": rope, "num_key_value_heads": 1, "head_dim": None}, config.where)
    keys = common_keys(plain) | {
        "attention.q_lora_rank": config.values.get("q_lora_rank") or 0,
        "attention.kv_lora_rank": latent,
        "attention.key_length": latent + turned,
        "attention.value_length": latent,
        "attention.key_length_mla": config.need("qk_nope_head_dim") + turned,
        "attention.value_length_mla": config.need("v_head_dim"),
        "rope.dimension_count": turned,
    }
    if mscale_all:
        keys["rope.scaling.yarn_log_multiplier"] = 0.1 * float(mscale_all)  # llama.cpp divides by 0.1 again
    return keys


LATENT = {"DeepseekV2ForCausalLM": deepseek_v2, "DeepseekV3ForCausalLM": deepseek_v3}
