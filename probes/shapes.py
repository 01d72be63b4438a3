"""The families of the probes: small configs in which no two sizes, and no two tensors, can be mistaken for each other.

To add a probe, write its `Shape` into the file of its mechanism, then `python probes/make.py NAME`.
"""

from __future__ import annotations

from shape import LOCAL, Shape
from shapes_dense import DENSE
from shapes_experts import EXPERTS
from shapes_recurrent import RECURRENT

SHAPES: dict[str, Shape] = {
    "llama3": Shape(
        "LlamaConfig",
        {
            "rms_norm_eps": 1e-5,
            "rope_parameters": {
                "rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0,
                "high_freq_factor": 4.0, "original_max_position_embeddings": 64,
            },
        },
        "llama",
        "rotary scaling by wavelength, neighbour or half pairing, grouped heads, eps of a quiet residual stream",
        seed=101,
    ),
    "qwen2.5": Shape(
        "Qwen2Config",
        {
            "hidden_size": 64, "num_attention_heads": 4, "head_dim": 16, "num_key_value_heads": 2,
            "tie_word_embeddings": True, "rms_norm_eps": 1e-6,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0},
        },
        "qwen2",
        "biases of q, k and v, square q and o matrices, a tied head, rows that no token uses",
        seed=102,
        padded_rows=6,
        bits=11,
    ),
    "qwen3": Shape(
        "Qwen3Config",
        {
            "tie_word_embeddings": True, "rms_norm_eps": 1e-6,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0},
        },
        "qwen2",
        "norms on the heads of q and k: missing, over the wrong axis, after the rotation, their eps",
        seed=103,
    ),
    "qwen3-moe": Shape(
        "Qwen3MoeConfig",
        {
            "moe_intermediate_size": 40, "num_experts": 6, "num_experts_per_tok": 3, "norm_topk_prob": True,
            "num_hidden_layers": 2, "rms_norm_eps": 1e-6,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0},
        },
        "qwen2",
        "routing: order, number and weights of the chosen experts, precision of the router",
        seed=104,
    ),
    "qwen3.5": Shape(
        "Qwen3_5TextConfig",
        {
            "tie_word_embeddings": True, "rms_norm_eps": 1e-6,
            "layer_types": ["linear_attention", "full_attention", "linear_attention"],
            "linear_num_key_heads": 2, "linear_num_value_heads": 6, "linear_key_head_dim": 16, "linear_value_head_dim": 16,
            "linear_conv_kernel_dim": 4,
            "rope_parameters": {
                "rope_type": "default", "rope_theta": 10000000.0, "partial_rotary_factor": 0.5,
                "mrope_section": [2, 1, 1], "mrope_interleaved": True,
            },
        },
        "qwen35",
        "gated delta-net: decay, beta, convolution and its state, value heads by key head; gated attention",
        seed=105,
    ),
    "gemma2": Shape(
        "Gemma2Config",
        {
            "layer_types": LOCAL, "sliding_window": 20, "query_pre_attn_scalar": 16, "rms_norm_eps": 1e-6,
            "attn_logit_softcapping": 5.0, "final_logit_softcapping": 6.0, "tie_word_embeddings": True,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
        },
        "llama",
        "both soft-caps, windows in every other layer, norms after the blocks, weights that are one more than stored",
        seed=106,
        window=20,
    ),
    "gemma3": Shape(
        "Gemma3TextConfig",
        {
            "layer_types": LOCAL, "sliding_window": 20, "query_pre_attn_scalar": 16, "rms_norm_eps": 1e-6,
            "tie_word_embeddings": True,
            "rope_parameters": {
                "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1000000.0},
                "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
            },
        },
        "llama",
        "two rotary bases, scaling in one kind of layer alone, windows, the scale of the embedding, tanh GELU",
        seed=107,
        window=20,
    ),
    "mistral": Shape(
        "MistralConfig",
        {
            "sliding_window": 20, "rms_norm_eps": 1e-5,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
        },
        "llama",
        "a window in every layer: ignored, off by one, its ring in decode",
        seed=108,
        window=20,
    ),
    "phi3": Shape(
        "Phi3Config",
        {
            "hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2, "rms_norm_eps": 1e-5,
            # the short factors hold throughout: engines choose between the two at different moments, llama.cpp by the
            # size of the context that it was opened with
            "max_position_embeddings": 16384, "original_max_position_embeddings": 8192,
            "rope_parameters": {
                "rope_type": "longrope", "rope_theta": 10000.0, "partial_rotary_factor": 0.75,
                "short_factor": [1.0, 1.1, 1.3, 1.6, 2.0, 2.5], "long_factor": [1.0, 2.0, 4.0, 8.0, 16.0, 32.0],
                "original_max_position_embeddings": 8192,
            },
        },
        "phi",
        "fused q, k, v and gate, up; rotation of a part of each head; LongRoPE's factors and its scale",
        seed=109,
    ),
    "gpt-oss": Shape(
        "GptOssConfig",
        {
            "layer_types": LOCAL, "sliding_window": 20, "num_local_experts": 5, "num_experts_per_tok": 2, "rms_norm_eps": 1e-5,
            "intermediate_size": 48,
            "rope_parameters": {
                "rope_type": "yarn", "rope_theta": 150000.0, "factor": 8.0, "beta_fast": 32.0, "beta_slow": 1.0,
                "truncate": True, "original_max_position_embeddings": 64,
            },
        },
        "llama",
        "attention sinks, windows, YaRN, biases everywhere, clamped SwiGLU, experts with gate and up interleaved",
        seed=110,
        window=20,
    ),
    "smollm3": Shape(
        "SmolLM3Config",
        {
            "num_hidden_layers": 4, "intermediate_size": 160, "no_rope_layer_interval": 4, "use_sliding_window": False,
            "tie_word_embeddings": True, "rms_norm_eps": 1e-6,
            "rope_parameters": {"rope_type": "default", "rope_theta": 5000000.0},
        },
        "llama",
        "no rotary positions in every fourth layer",
        seed=111,
    ),
    "qwen2-moe": Shape(
        "Qwen2MoeConfig",
        {
            "hidden_size": 64, "num_attention_heads": 4, "head_dim": 16, "num_key_value_heads": 2, "num_hidden_layers": 2,
            "moe_intermediate_size": 40, "shared_expert_intermediate_size": 72, "num_experts": 6, "num_experts_per_tok": 2,
            "norm_topk_prob": False, "rms_norm_eps": 1e-6,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0},
        },
        "qwen2",
        "a shared expert behind a gate, shares of experts that are not normalized",
        seed=112,
    ),
    "glm4-moe": Shape(
        "Glm4MoeConfig",
        {
            "moe_intermediate_size": 40, "n_routed_experts": 8, "num_experts_per_tok": 2, "n_group": 4, "topk_group": 2,
            "n_shared_experts": 1, "first_k_dense_replace": 1, "routed_scaling_factor": 2.5, "norm_topk_prob": True,
            "attention_bias": True, "num_mtp_layers": 0, "rms_norm_eps": 1e-5, "intermediate_size": 104,
            "num_hidden_layers": 2,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0, "partial_rotary_factor": 0.5},
        },
        "llama",
        "sigmoid routing: a correction in the choice alone, groups of experts, the scale of the routed part",
        seed=113,
    ),
    "llama-gelu": Shape(
        "LlamaConfig",
        {
            "hidden_size": 64, "num_attention_heads": 4, "head_dim": 24, "num_key_value_heads": 2, "num_hidden_layers": 2,
            "hidden_act": "gelu", "mlp_bias": True, "attention_bias": True, "rms_norm_eps": 1e-5, "intermediate_size": 160,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
        },
        "llama",
        "exact GELU, biases of the feed-forward block",
        seed=114,
    ),
    "granite": Shape(
        "GraniteConfig",
        {
            "embedding_multiplier": 7.25, "residual_multiplier": 0.375, "attention_multiplier": 0.15625,
            "logits_scaling": 3.5, "rms_norm_eps": 1e-5, "num_hidden_layers": 2,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
        },
        "words",
        "factors of the embedding, the residual stream, the scores and the logits; a vocabulary with numbers and blanks",
        seed=115,
    ),
    "llama3-outliers": Shape(
        "LlamaConfig",
        {
            "rms_norm_eps": 1e-5, "num_hidden_layers": 2,
            "rope_parameters": {"rope_type": "default", "rope_theta": 500000.0},
        },
        "llama",
        "one channel of each feed-forward block beyond the range of float16",
        seed=116,
        outliers=True,
    ),
}  # fmt: skip
SHAPES |= DENSE | EXPERTS | RECURRENT
