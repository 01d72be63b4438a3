"""GGUF layouts of families with experts: Ernie 4.5 MoE, MiniMax M2, Llama 4."""

from __future__ import annotations

import numpy as np

from logitproof.gguf.experts import SIGMOID, stacked
from logitproof.gguf.layout import (
    ATTENTION,
    FEED_FORWARD,
    NORMS,
    QK_NORMS,
    Change,
    Config,
    Layout,
    Planned,
    common_keys,
    frame,
    layer,
)
from logitproof.gguf.rotary import llama3_tensors

LLAMA4_LENGTH = 8192
"""Positions of a chunk and of a step of the temperature, which llama.cpp takes for granted."""


def ernie4_5_moe(config: Config) -> Layout:
    """Ernie 4.5 MoE: softmax routing with a correction in the choice alone, shared experts, dense layers first."""
    if config.values.get("use_bias") or config.rope.get("rope_type", "default") != "default":
        raise config.refuse("use_bias or rope scaling")
    first, step, last = (config.need(f"moe_layer_{name}") for name in ("start_index", "interval", "end_index"))
    layers, experts = config.need("num_hidden_layers"), config.need("moe_num_experts")
    if last not in (-1, layers - 1):
        raise config.refuse("dense layers after those with experts")
    config.without_effect("moe_norm_min")  # a sum of chosen shares is never as small
    routed = {f"ffn_{part}_shexp.weight": f"mlp.shared_experts.{part}_proj.weight" for part in ("gate", "up", "down")}
    routed |= {"ffn_gate_inp.weight": "mlp.gate.weight", "exp_probs_b.bias": "mlp.moe_statics.e_score_correction_bias"}
    flat: dict[str, Change] = {"exp_probs_b.bias": lambda arrays: arrays[0].reshape(-1)}
    tensors = frame(config)
    for number in range(layers):
        has_experts = number >= first and (number + 1) % step == 0
        tensors += layer(number, NORMS | ATTENTION | (routed if has_experts else FEED_FORWARD), flat)
        tensors += stacked(number, experts) if has_experts else []
    width = config.need("moe_intermediate_size")
    keys = common_keys(config) | {
        "expert_count": experts,
        "expert_used_count": config.need("moe_k"),
        "expert_feed_forward_length": width,
        "expert_shared_count": config.need("moe_num_shared_experts"),
        "expert_shared_feed_forward_length": width * config.need("moe_num_shared_experts"),
        "interleave_moe_layer_step": step,
        "leading_dense_block_count": first,
    }
    return Layout("ernie4_5-moe", keys, tensors, left_out=("model.mtp_",))


def minimax_m2(config: Config) -> Layout:
    """MiniMax M2: norms over all heads of q and of k, positions on a part of each head, sigmoid routing with a correction."""
    experts = config.need("num_local_experts")
    names = (
        NORMS
        | ATTENTION
        | QK_NORMS
        | {
            "ffn_gate_inp.weight": "block_sparse_moe.gate.weight",
            "exp_probs_b.bias": "block_sparse_moe.e_score_correction_bias",
        }
    )
    tensors = frame(config)
    for number in range(config.need("num_hidden_layers")):
        tensors += layer(number, names)
        for part, source in (("gate", "w1"), ("down", "w2"), ("up", "w3")):
            sources = tuple(f"model.layers.{number}.block_sparse_moe.experts.{at}.{source}.weight" for at in range(experts))
            tensors.append(Planned(f"blk.{number}.ffn_{part}_exps.weight", sources, np.stack))
    keys = common_keys(config) | {
        "expert_count": experts,
        "expert_used_count": config.need("num_experts_per_tok"),
        "expert_feed_forward_length": config.need("intermediate_size"),
        "expert_gating_func": SIGMOID,
        "rope.dimension_count": int(config.head_size * config.rope.get("partial_rotary_factor", 1.0)),
    }
    return Layout("minimax-m2", keys, tensors)


def llama4(config: Config) -> Layout:
    """Llama 4: layers without positions among layers in chunks, experts in every so manyth layer, gate and up in one tensor."""
    layers, experts = config.need("num_hidden_layers"), config.need("num_local_experts")
    if config.need("attention_chunk_size") != LLAMA4_LENGTH or config.need("floor_scale") != LLAMA4_LENGTH:
        raise config.refuse(f"chunks or temperature steps of other than {LLAMA4_LENGTH} positions")
    if config.need("no_rope_layers") != [int((number + 1) % 4 != 0) for number in range(layers)]:
        raise config.refuse("positions left out in other layers than every fourth")
    if (
        not config.need("use_qk_norm")
        or experts == 128
        or not config.need("attn_temperature_tuning")
        or config.need("attn_scale") != 0.1
    ):
        raise config.refuse("no norm of q and k, or another temperature")
    chunked = ["chunked_attention" if rotated else "full_attention" for rotated in config.need("no_rope_layers")]
    if (config.values.get("layer_types") or chunked) != chunked:
        raise config.refuse("chunks in other layers than those with positions")
    config.without_effect("no_rope_layer_interval")
    width = config.need("intermediate_size")
    routed = {f"ffn_{part}_shexp.weight": f"feed_forward.shared_expert.{part}_proj.weight" for part in ("gate", "up", "down")}
    routed |= {"ffn_gate_inp.weight": "feed_forward.router.weight"}
    routed |= {f"ffn_{part}_exps.weight": "feed_forward.experts.gate_up_proj" for part in ("gate", "up")}
    routed |= {"ffn_down_exps.weight": "feed_forward.experts.down_proj"}
    dense = {f"ffn_{part}.weight": f"feed_forward.{part}_proj.weight" for part in ("gate", "up", "down")}
    changes: dict[str, Change] = {
        "ffn_gate_exps.weight": lambda arrays: arrays[0][..., :width].swapaxes(1, 2),
        "ffn_up_exps.weight": lambda arrays: arrays[0][..., width:].swapaxes(1, 2),
        "ffn_down_exps.weight": lambda arrays: arrays[0].swapaxes(1, 2),
    }
    tensors = llama3_tensors(config) + frame(config)
    for number in range(layers):
        has_experts = number in config.need("moe_layers")
        tensors += layer(number, NORMS | ATTENTION | (routed if has_experts else dense), changes)
    whole = Config(config.values | {"intermediate_size": config.need("intermediate_size_mlp")}, config.where)
    keys = common_keys(whole) | {
        "vocab_size": config.need("vocab_size"),
        "rope.dimension_count": config.head_size,
        "expert_count": experts,
        "expert_used_count": config.need("num_experts_per_tok"),
        "expert_feed_forward_length": width,
        "interleave_moe_layer_step": config.need("interleave_moe_layer_step"),
    }
    return Layout("llama4", keys, tensors)


ROUTED = {
    "Ernie4_5_MoeForCausalLM": ernie4_5_moe,
    "MiniMaxM2ForCausalLM": minimax_m2,
    "Llama4ForCausalLM": llama4,
}
