"""Families with a state in place of a cache: Mamba-2 alone and beside attention, short convolutions, linear attention."""

from __future__ import annotations

from typing import Any

from shape import Shape

PLAIN = {"rope_type": "default", "rope_theta": 10000.0}
SCAN: dict[str, Any] = {
    "mamba_n_heads": 6, "mamba_d_head": 20, "mamba_n_groups": 2, "mamba_d_state": 24, "mamba_d_conv": 4, "mamba_expand": 2,
    "mamba_chunk_size": 16,
}  # fmt: skip

RECURRENT: dict[str, Shape] = {
    "mamba2": Shape(
        "Mamba2Config",
        {
            "num_heads": 6, "head_dim": 20, "n_groups": 2, "state_size": 24, "expand": 2, "conv_kernel": 4, "chunk_size": 16,
            "layer_norm_epsilon": 1e-5, "num_hidden_layers": 3,
        },
        "llama",
        "the scan alone: steps, decay, convolution and its state, the skip of the input, the gated norm",
        seed=132,
    ),
    "falcon-h1": Shape(
        "FalconH1Config",
        SCAN | {
            "mamba_d_ssm": 120, "mamba_rms_norm": False, "mamba_norm_before_gate": False, "intermediate_size": 104,
            "num_hidden_layers": 2, "rms_norm_eps": 1e-5, "rope_parameters": PLAIN,
            # powers of two: what GGUF files hold multiplied into the weights then has no more digits than these
            "embedding_multiplier": 4.0, "lm_head_multiplier": 0.5, "key_multiplier": 0.25, "attention_in_multiplier": 2.0,
            "attention_out_multiplier": 0.5, "ssm_in_multiplier": 2.0, "ssm_out_multiplier": 0.25,
            "mlp_multipliers": [2.0, 0.5], "ssm_multipliers": [0.5, 0.25, 2.0, 0.125, 1.0],
        },
        "llama",
        "scan and attention side by side, a factor on every path",
        seed=133,
    ),
    "nemotron-h": Shape(
        "NemotronHConfig",
        {
            "layers_block_type": ["mamba", "mlp", "attention", "mamba", "mlp"], "num_hidden_layers": 5, "mamba_num_heads": 6,
            "mamba_head_dim": 20, "n_groups": 2, "ssm_state_size": 24, "conv_kernel": 4, "expand": 2, "chunk_size": 16,
            "mlp_hidden_act": "relu2", "layer_norm_epsilon": 1e-5, "intermediate_size": 104,
        },
        "llama",
        "layers of scan, attention without positions and squared ReLU by turns, a gated norm by groups",
        seed=134,
    ),
    "granite-hybrid": Shape(
        "GraniteMoeHybridConfig",
        SCAN | {
            "layer_types": ["mamba", "attention", "mamba"], "num_local_experts": 5, "num_experts_per_tok": 2, "hidden_size": 60,
            "intermediate_size": 24, "shared_intermediate_size": 40, "position_embedding_type": "nope", "rms_norm_eps": 1e-5,
            "embedding_multiplier": 7.25, "residual_multiplier": 0.375, "attention_multiplier": 0.15625, "logits_scaling": 3.5,
            "rope_parameters": PLAIN,
        },
        "llama",
        "scan among attention without positions, experts beside a shared one, factors of embedding, stream, scores and logits",
        seed=135,
    ),
    "lfm2": Shape(
        "Lfm2Config",
        {
            "hidden_size": 64, "num_attention_heads": 4, "layer_types": ["conv", "full_attention", "conv"],
            "conv_L_cache": 3, "conv_bias": False, "intermediate_size": 104,
            "block_auto_adjust_ff_dim": False, "norm_eps": 1e-5, "tie_word_embeddings": True, "rope_parameters": PLAIN,
        },
        "llama",
        "gated short convolutions and their state, norms on the heads of q and k",
        seed=136,
    ),
    "qwen3-next": Shape(
        "Qwen3NextConfig",
        {
            "layer_types": ["linear_attention", "full_attention", "linear_attention"], "num_experts": 6,
            "num_experts_per_tok": 3,
            "moe_intermediate_size": 20, "shared_expert_intermediate_size": 28, "norm_topk_prob": True, "rms_norm_eps": 1e-6,
            "linear_num_key_heads": 2, "linear_num_value_heads": 6, "linear_key_head_dim": 16, "linear_value_head_dim": 16,
            "linear_conv_kernel_dim": 4, "rope_parameters": PLAIN | {"partial_rotary_factor": 0.5},
        },
        "qwen2",
        "gated delta-net with q, k, v and the gate in one matrix by head, gated attention, experts beside a gated shared one",
        seed=151,
    ),
    "qwen3.5-moe": Shape(
        "Qwen3_5MoeTextConfig",
        {
            "layer_types": ["linear_attention", "full_attention", "linear_attention"], "num_experts": 6,
            "num_experts_per_tok": 3,
            "moe_intermediate_size": 20, "shared_expert_intermediate_size": 28, "rms_norm_eps": 1e-6,
            "linear_num_key_heads": 2, "linear_num_value_heads": 6, "linear_key_head_dim": 16, "linear_value_head_dim": 16,
            "linear_conv_kernel_dim": 4,
            "rope_parameters": PLAIN | {
                "partial_rotary_factor": 0.5, "mrope_section": [2, 1, 1], "mrope_interleaved": True,
            },
        },
        "qwen35",
        "gated delta-net and gated attention with experts beside a gated shared one",
        seed=138,
    ),
    "kimi-linear": Shape(
        "KimiLinearConfig",
        {
            "layer_types": ["linear_attention", "full_attention", "linear_attention"], "num_key_value_heads": 6,
            "q_lora_rank": None, "kv_lora_rank": 20, "qk_nope_head_dim": 16, "qk_rope_head_dim": 8, "v_head_dim": 12,
            "head_dim": 24,
            "intermediate_size": 104, "moe_intermediate_size": 20, "num_local_experts": 6, "num_experts_per_tok": 3,
            "n_shared_experts": 1, "mlp_layer_types": ["sparse"] * 3, "routed_scaling_factor": 2.446,
            "linear_head_dim": 16, "linear_num_heads": 6, "linear_conv_kernel_dim": 4,
            # as that of the lengths of q and k, which is 1e-6 in the reference and that of the norms in llama.cpp
            "rms_norm_eps": 1e-6,
        },
        "llama",
        "delta attention with a decay of every channel, latent attention without positions",
        seed=139,
    ),
}  # fmt: skip
