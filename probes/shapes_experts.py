"""Families with experts: latent attention and groups, corrections of the choice, layers without positions."""

from __future__ import annotations

from typing import Any

from shape import Shape

PLAIN = {"rope_type": "default", "rope_theta": 10000.0}
LATENT: dict[str, Any] = {
    "num_key_value_heads": 6, "q_lora_rank": 28, "kv_lora_rank": 20, "qk_nope_head_dim": 16, "qk_rope_head_dim": 8,
    "v_head_dim": 12, "head_dim": 8, "intermediate_size": 104, "moe_intermediate_size": 24, "n_routed_experts": 8,
    "num_experts_per_tok": 3,
    "n_group": 4, "topk_group": 2, "n_shared_experts": 1, "first_k_dense_replace": 1, "rms_norm_eps": 1e-6,
}  # fmt: skip
"""No head of q, k or v is as long as another, nor as the hidden size over the heads."""
YARN = {
    "rope_type": "yarn", "rope_theta": 10000.0, "factor": 8.0, "beta_fast": 32.0, "beta_slow": 1.0,
    "original_max_position_embeddings": 64,
}  # fmt: skip

EXPERTS: dict[str, Shape] = {
    "deepseek-v3": Shape(
        "DeepseekV3Config",
        LATENT | {
            "routed_scaling_factor": 2.5, "norm_topk_prob": True, "num_mtp_layers": 0,
            "rope_parameters": YARN | {"mscale": 1.0, "mscale_all_dim": 1.0},
        },
        "llama",
        "latent attention with rotary positions apart, YaRN's factor in the scores, sigmoid routing by groups and correction",
        seed=125,
    ),
    "deepseek-v2": Shape(
        "DeepseekV2Config",
        LATENT | {
            "q_lora_rank": None, "n_group": 1, "topk_group": 1, "topk_method": "greedy", "n_shared_experts": 2,
            "routed_scaling_factor": 1.75, "norm_topk_prob": False, "rope_parameters": YARN | {"mscale": 0.707,
            "mscale_all_dim": 0.707},
        },
        "llama",
        "latent attention without a latent of q, shares of experts that are not normalized, YaRN's factor in the scores",
        seed=126,
    ),
    "ernie4.5-moe": Shape(
        "Ernie4_5_MoeConfig",
        {
            "moe_intermediate_size": 24, "moe_num_experts": 7, "moe_k": 3, "moe_num_shared_experts": 2,
            "moe_layer_start_index": 1,
            "intermediate_size": 104, "num_hidden_layers": 3, "hidden_size": 64, "num_attention_heads": 4,
            "rms_norm_eps": 1e-5, "tie_word_embeddings": True, "rope_parameters": PLAIN | {"rope_theta": 500000.0},
        },
        "llama",
        "softmax routing with a correction in the choice alone, shared experts, neighbours as rotary pairs",
        seed=127,
    ),
    "minimax-m2": Shape(
        "MiniMaxM2Config",
        {
            "intermediate_size": 24, "num_local_experts": 7, "num_experts_per_tok": 3, "rms_norm_eps": 1e-6,
            "rope_parameters": PLAIN | {"rope_theta": 5000000.0, "partial_rotary_factor": 0.5},
        },
        "llama",
        "norms over all of q and of k, positions on half of each head, sigmoid routing with a correction in the choice alone",
        seed=128,
    ),
    "phi3.5-moe": Shape(
        "PhimoeConfig",
        {
            # head_dim is no field of the model's own config: heads are the hidden size over their number
            "hidden_size": 96, "num_attention_heads": 6, "head_dim": 16, "intermediate_size": 40, "num_local_experts": 5,
            "num_experts_per_tok": 2, "router_jitter_noise": 0.15, "rms_norm_eps": 1e-5, "sliding_window": None,
            "attention_bias": True, "lm_head_bias": True, "original_max_position_embeddings": 1024, "rope_parameters": PLAIN,
        },
        "llama",
        "routing by SparseMixer: a share is that among the experts near the best; LayerNorm and biases everywhere",
        seed=150,
    ),
    "llama4": Shape(
        "Llama4TextConfig",
        {
            "intermediate_size": 24, "intermediate_size_mlp": 104, "num_hidden_layers": 4, "num_local_experts": 5,
            "num_experts_per_tok": 1, "interleave_moe_layer_step": 2, "use_qk_norm": True, "attention_chunk_size": 8192,
            "attn_temperature_tuning": True, "floor_scale": 8192, "attn_scale": 0.1, "rms_norm_eps": 1e-5,
            "rope_parameters": {
                "rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0,
                "high_freq_factor": 4.0, "original_max_position_embeddings": 64,
            },
        },
        "llama",
        "norms of q and k by their length, a global layer without positions, weights before the expert, dense layers between",
        seed=130,
    ),
    "llama4-chunked": Shape(
        "Llama4TextConfig",
        {
            "intermediate_size": 24, "intermediate_size_mlp": 104, "num_hidden_layers": 4, "num_local_experts": 5,
            "num_experts_per_tok": 1, "interleave_moe_layer_step": 2, "use_qk_norm": True,
            "layer_types": ["chunked_attention"] * 3 + ["full_attention"], "attention_chunk_size": 32,
            "attn_temperature_tuning": True, "floor_scale": 16, "attn_scale": 0.1, "rms_norm_eps": 1e-5,
            "rope_parameters": {
                "rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0,
                "high_freq_factor": 4.0, "original_max_position_embeddings": 64,
            },
        },
        "llama",
        "attention in chunks, a global layer without positions whose queries grow with them, weights before the expert",
        seed=131,
        window=32,
    ),
}  # fmt: skip
