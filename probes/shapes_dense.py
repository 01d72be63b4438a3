"""Families whose layers are dense attention and a feed-forward block, each with a habit of its own."""

from __future__ import annotations

from typing import Any

from shape import LOCAL, Shape

SQUARE: dict[str, Any] = {"hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 208}
"""Heads that are together as wide as the hidden size: llama.cpp takes that for granted in these families."""
PLAIN = {"rope_type": "default", "rope_theta": 10000.0}
GEMMA4: dict[str, Any] = {
    "head_dim": 16, "global_head_dim": 24, "sliding_window": 20, "rms_norm_eps": 1e-6, "tie_word_embeddings": True,
    "rope_parameters": {
        "full_attention": {"rope_type": "proportional", "partial_rotary_factor": 0.5, "rope_theta": 1000000.0},
        "sliding_attention": PLAIN,
    },
}  # fmt: skip

DENSE: dict[str, Shape] = {
    "cohere2": Shape(
        "Cohere2Config",
        SQUARE | {
            "layer_types": ["sliding_attention", "sliding_attention", "sliding_attention", "full_attention"],
            "sliding_window": 20,
            "num_hidden_layers": 4, "intermediate_size": 144, "logit_scale": 0.3125, "layer_norm_eps": 1e-5,
            "tie_word_embeddings": True, "rope_parameters": PLAIN,
        },
        "llama",
        "attention and feed-forward side by side, LayerNorm without bias, a scale of the logits, no positions in global layers",
        seed=117,
        window=20,
    ),
    "olmo2": Shape(
        "Olmo2Config",
        SQUARE | {"rms_norm_eps": 1e-6, "rope_parameters": PLAIN | {"rope_theta": 500000.0}},
        "llama",
        "norms after the blocks alone, norms over all of q and of k",
        seed=118,
    ),
    "olmo3": Shape(
        "Olmo3Config",
        SQUARE | {
            "layer_types": LOCAL, "sliding_window": 20, "rms_norm_eps": 1e-6,
            "rope_parameters": {
                "full_attention": {
                    "rope_type": "yarn", "rope_theta": 500000.0, "factor": 8.0, "beta_fast": 32.0, "beta_slow": 1.0,
                    "original_max_position_embeddings": 64,
                },
                "sliding_attention": PLAIN | {"rope_theta": 500000.0},
            },
        },
        "llama",
        "YaRN in the global layers alone, windows, norms over all of q and of k",
        seed=119,
        window=20,
    ),
    "exaone4": Shape(
        "Exaone4Config",
        SQUARE | {
            "sliding_window": None, "layer_types": ["full_attention"] * 3, "rms_norm_eps": 1e-5, "tie_word_embeddings": True,
            "rope_parameters": {
                "rope_type": "llama3", "rope_theta": 1000000.0, "factor": 16.0, "low_freq_factor": 1.0,
                "high_freq_factor": 4.0, "original_max_position_embeddings": 64,
            },
        },
        "llama",
        "norms after the blocks alone, norms on the heads of q and k, rotary scaling by wavelength with halves as pairs",
        seed=120,
    ),
    "seed-oss": Shape(
        "SeedOssConfig",
        {
            "attention_bias": True, "attention_out_bias": False, "residual_dropout": 0.0, "rms_norm_eps": 1e-6,
            "rope_parameters": PLAIN | {"rope_theta": 10000000.0},
        },
        "llama",
        "biases of q, k and v beside heads that are together wider than the hidden size",
        seed=121,
    ),
    "hunyuan": Shape(
        "HunYuanDenseV1Config",
        {"rms_norm_eps": 1e-5, "tie_word_embeddings": True, "rope_parameters": PLAIN},
        "llama",
        "norms on the heads of q and k after the rotation",
        seed=122,
    ),
    "apertus": Shape(
        "ApertusConfig",
        SQUARE | {
            "hidden_act": "xielu", "rms_norm_eps": 1e-5,
            "rope_parameters": {
                "rope_type": "llama3", "rope_theta": 12000000.0, "factor": 8.0, "low_freq_factor": 1.0,
                "high_freq_factor": 4.0, "original_max_position_embeddings": 64,
            },
        },
        "llama",
        "xIELU with learned slopes, no gate, norms on the heads of q and k",
        seed=123,
    ),
    "arcee": Shape(
        "ArceeConfig",
        {
            "rms_norm_eps": 1e-5, "intermediate_size": 272,
            "rope_parameters": {
                "rope_type": "yarn", "rope_theta": 10000.0, "factor": 8.0, "beta_fast": 32.0, "beta_slow": 1.0,
                "original_max_position_embeddings": 64,
            },
        },
        "llama",
        "squared ReLU, no gate, YaRN",
        seed=124,
    ),
    "gemma": Shape(
        "GemmaConfig",
        {"rms_norm_eps": 1e-6, "tie_word_embeddings": True, "rope_parameters": PLAIN},
        "llama",
        "the scale of the embedding, norms that are one more than stored, none behind the blocks, tanh GELU",
        seed=140,
    ),
    "glm4": Shape(
        "Glm4Config",
        {
            "rms_norm_eps": 1e-5, "attention_bias": True, "intermediate_size": 160,
            "rope_parameters": PLAIN | {"partial_rotary_factor": 0.5},
        },
        "llama",
        "norms before and behind the blocks, neighbours as rotary pairs on half of each head, biases, fused gate and up",
        seed=141,
    ),
    "gemma3n": Shape(
        "Gemma3nTextConfig",
        {
            "layer_types": ["sliding_attention", "sliding_attention", "full_attention", "sliding_attention", "full_attention"],
            "num_hidden_layers": 5, "num_kv_shared_layers": 2, "intermediate_size": 88, "sliding_window": 20,
            "hidden_size_per_layer_input": 12, "vocab_size_per_layer_input": 300, "laurel_rank": 22, "altup_num_inputs": 3,
            "activation_sparsity_pattern": [0.8, 0.0, 0.6, 0.0, 0.7], "final_logit_softcapping": 6.0, "rms_norm_eps": 1e-6,
            "tie_word_embeddings": True,
        },
        "llama",
        "alternating updates, LAuReL, embeddings for every layer, sparse gates, keys and values of earlier layers",
        seed=152,
        window=20,
    ),
    "gemma4": Shape(
        "Gemma4TextConfig",
        GEMMA4 | {
            "layer_types": ["sliding_attention", "sliding_attention", "full_attention", "sliding_attention", "full_attention"],
            "num_hidden_layers": 5, "num_kv_shared_layers": 2, "use_double_wide_mlp": True, "intermediate_size": 88,
            "hidden_size_per_layer_input": 12, "vocab_size_per_layer_input": 300, "final_logit_softcapping": 6.0,
        },
        "llama",
        "embeddings for every layer, keys and values of earlier layers, two sizes of heads, proportional rotation",
        seed=142,
        window=20,
    ),
    "gemma4-moe": Shape(
        "Gemma4TextConfig",
        GEMMA4 | {
            "layer_types": ["sliding_attention", "sliding_attention", "full_attention"], "num_global_key_value_heads": 1,
            "attention_k_eq_v": True, "hidden_size_per_layer_input": 0, "intermediate_size": 56, "enable_moe_block": True,
            "num_experts": 6, "top_k_experts": 2, "moe_intermediate_size": 20,
        },
        "llama",
        "values that are the keys before their norm, experts beside a dense block, a scale of every expert, normed values",
        seed=143,
        window=20,
    ),
}  # fmt: skip
