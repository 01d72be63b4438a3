"""Configs of families with experts: DeepSeek V2 and V3, Ernie 4.5 MoE, MiniMax M2, Llama 4."""

from __future__ import annotations

from collections.abc import Callable

from logitproof.gguf.experts import SIGMOID
from logitproof.gguf.metadata import Metadata
from logitproof.gguf.settings_common import Values, common, experts, llama3_rope, turned

EVERY_FOURTH = 4
CHUNK = 8192


def deepseek2(meta: Metadata) -> Values:
    """DeepSeek V2 and V3, which one architecture of GGUF is: the gating function tells them apart."""
    rule = "llama.cpp's loader of DeepSeek 2"
    gating = meta.value("expert_gating_func", 1, rule)
    if gating not in (1, SIGMOID):
        raise meta.refusal("expert_gating_func", f"is {gating}, which is not known")
    name, kind = ("DeepseekV3ForCausalLM", "deepseek_v3") if gating == SIGMOID else ("DeepseekV2ForCausalLM", "deepseek_v2")
    config = common(meta, name, kind, num_key_value_heads=meta.count("attention.head_count"), attention_bias=False)
    config |= latent(meta, config["rope_parameters"]) | experts(meta, "n_routed_experts")
    config |= {
        "first_k_dense_replace": int(meta.value("leading_dense_block_count", 0, rule)),
        "n_shared_experts": meta.count("expert_shared_count"),
        "routed_scaling_factor": float(meta.value("expert_weights_scale", 1.0, rule)),
        "n_group": int(meta.optional("expert_group_count", 1)) or 1,
        "topk_group": int(meta.optional("expert_group_used_count", 1)) or 1,
        "norm_topk_prob": bool(meta.optional("expert_weights_norm", False)),
    }
    if gating == SIGMOID:
        return config | {"rope_interleave": True, "num_nextn_predict_layers": 0}
    if config["n_group"] > 1:
        raise meta.refusal("expert_group_count", "is not 1: llama.cpp chooses groups otherwise than DeepSeek V2 does")
    return config | {"topk_method": "greedy", "mlp_bias": False}


def latent(meta: Metadata, rope: Values) -> Values:
    """Sizes of latent attention; the file names the width of what is cached, and its rotary part."""
    ranks, rotated = meta.count("attention.kv_lora_rank"), meta.count("rope.dimension_count")
    factor = float(meta.optional("rope.scaling.yarn_log_multiplier", 0.0))
    if factor:
        # the file holds a tenth of it (TAG_DEEPSEEK2_YARN_LOG_MUL_FIX of llama.cpp)
        scale = float(f"{factor / 0.1:.7g}")
        rope = rope | {"mscale": scale, "mscale_all_dim": scale}
    return {
        "rope_parameters": rope,
        "q_lora_rank": int(meta.optional("attention.q_lora_rank", 0)) or None,
        "kv_lora_rank": ranks,
        "head_dim": rotated,
        "qk_rope_head_dim": rotated,
        "qk_nope_head_dim": meta.count("attention.key_length_mla") - rotated,
        "qk_head_dim": meta.count("attention.key_length_mla"),
        "v_head_dim": meta.count("attention.value_length_mla"),
    }


def ernie4_5_moe(meta: Metadata) -> Values:
    """Ernie 4.5 MoE: dense layers first, then experts in every so manyth layer."""
    config = common(meta, "Ernie4_5_MoeForCausalLM", "ernie4_5_moe", use_bias=False)
    layers, rule = config["num_hidden_layers"], "llama.cpp's loader of Ernie 4.5 MoE"
    width = meta.count("expert_feed_forward_length")
    shared = meta.optional("expert_shared_count", int(meta.optional("expert_shared_feed_forward_length", 0)) // width)
    return config | {
        "moe_num_experts": meta.count("expert_count"),
        "moe_k": meta.count("expert_used_count"),
        "moe_intermediate_size": width,
        "moe_num_shared_experts": int(shared),
        "moe_layer_start_index": int(meta.value("leading_dense_block_count", 0, rule)),
        "moe_layer_end_index": layers - 1,
        "moe_layer_interval": meta.count("interleave_moe_layer_step"),
    }


def minimax_m2(meta: Metadata) -> Values:
    """MiniMax M2: sigmoid routing with a correction, positions on a part of each head."""
    gating = meta.optional("expert_gating_func", SIGMOID)
    if gating != SIGMOID:
        raise meta.refusal("expert_gating_func", f"is {gating}, not the sigmoid of MiniMax M2")
    config = common(meta, "MiniMaxM2ForCausalLM", "minimax_m2")
    config["rope_parameters"]["partial_rotary_factor"] = turned(meta, config)
    return config | {
        "num_local_experts": meta.count("expert_count"),
        "num_experts_per_tok": meta.count("expert_used_count"),
        "intermediate_size": meta.count("expert_feed_forward_length"),
    }


def llama4(meta: Metadata) -> Values:
    """Llama 4: chunks, temperature and layers without positions are what llama.cpp takes for granted."""
    if "attention.sliding_window" in meta.keys and not meta.optional("attention.sliding_window", 0):
        raise meta.refusal("attention.sliding_window", "is 0: a Llama 4 without chunks is not known")
    config = llama3_rope(meta, common(meta, "Llama4ForCausalLM", "llama4_text", attention_bias=False))
    layers, step = config["num_hidden_layers"], meta.count("interleave_moe_layer_step")
    rotated = [int((number + 1) % EVERY_FOURTH != 0) for number in range(layers)]
    granted = {"attention_chunk_size": CHUNK, "floor_scale": CHUNK, "attn_scale": 0.1, "no_rope_layers": rotated}
    for key, value in granted.items():
        meta.assume(key, f"every {EVERY_FOURTH}th" if value is rotated else value, "llama.cpp's loader of Llama 4")
    return config | granted | {
        "attn_temperature_tuning": True,
        "use_qk_norm": True,
        "intermediate_size_mlp": config["intermediate_size"],
        "intermediate_size": meta.count("expert_feed_forward_length"),
        "num_local_experts": meta.count("expert_count"),
        "num_experts_per_tok": meta.count("expert_used_count"),
        "interleave_moe_layer_step": step,
        "moe_layers": list(range(step - 1, layers, step)),
        "no_rope_layer_interval": EVERY_FOURTH,
        "layer_types": ["chunked_attention" if flag else "full_attention" for flag in rotated],
    }  # fmt: skip


EXPERTS: dict[str, Callable[[Metadata], Values]] = {
    "deepseek2": deepseek2,
    "ernie4_5-moe": ernie4_5_moe,
    "minimax-m2": minimax_m2,
    "llama4": llama4,
}
