"""GGUF layouts of families with linear attention or short convolutions: Qwen3-Next, Qwen3.5-MoE, Kimi Linear, LFM2.

Facts are llama.cpp's (its converter and `src/models/`). A layer without heads of K and V is one with a state.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from logitproof.gguf.experts import SIGMOID, stacked
from logitproof.gguf.latent import latent_attention, latent_keys
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
from logitproof.weights.checkpoint import Array

GATED_SHARED = {f"ffn_{part}_shexp.weight": f"mlp.shared_expert.{part}_proj.weight" for part in ("gate", "up", "down")} | {
    "ffn_gate_inp_shexp.weight": "mlp.shared_expert_gate.weight",
    "ffn_gate_inp.weight": "mlp.gate.weight",
}
KIMI_DELTA = {
    "ssm_conv1d_q.weight": "q_conv1d.weight",
    "ssm_conv1d_k.weight": "k_conv1d.weight",
    "ssm_conv1d_v.weight": "v_conv1d.weight",
    "ssm_f_a.weight": "f_a_proj.weight",
    "ssm_f_b.weight": "f_b_proj.weight",
    "ssm_g_a.weight": "g_a_proj.weight",
    "ssm_g_b.weight": "g_b_proj.weight",
    "ssm_beta.weight": "b_proj.weight",
    "ssm_a": "A_log",
    "ssm_dt.bias": "dt_bias",
    "ssm_norm.weight": "o_norm.weight",
}


def qwen3_next(config: Config) -> Layout:
    """Qwen3-Next: the gated delta-net's projections lie by key head in the checkpoint and one after the other in GGUF."""
    inner = {
        "attn_qkv.weight": "in_proj_qkvz.weight",
        "attn_gate.weight": "in_proj_qkvz.weight",
        "ssm_ba.weight": "in_proj_ba.weight",
        "ssm_a": "A_log",
        "ssm_dt.bias": "dt_bias",
        "ssm_conv1d.weight": "conv1d.weight",
        "ssm_norm.weight": "norm.weight",
        "ssm_out.weight": "out_proj.weight",
    }
    keys, values, size, width = (
        config.need(f"linear_{name}") for name in ("num_key_heads", "num_value_heads", "key_head_dim", "value_head_dim")
    )
    ends = np.cumsum([size, size, values // keys * width])

    def parts(arrays: list[Array]) -> list[Array]:
        by_head = arrays[0].reshape(keys, -1, arrays[0].shape[1])
        return [part.reshape(-1, arrays[0].shape[1]) for part in np.split(by_head, ends, axis=1)]

    changes: dict[str, Change] = {
        "attn_qkv.weight": lambda arrays: np.concatenate(parts(arrays)[:3]),
        "attn_gate.weight": lambda arrays: parts(arrays)[3],
        "ssm_a": lambda arrays: -_exp(arrays[0]),
        "ssm_conv1d.weight": lambda arrays: arrays[0].squeeze(1),
    }
    turned = int(config.head_size * config.rope.get("partial_rotary_factor", 0.25))
    return _gated(config, "qwen3next", inner, changes, {"rope.dimension_count": turned})


def qwen3_5_moe(config: Config, delta_net: dict[str, str], changes: dict[str, Change]) -> Layout:
    """Qwen3.5-MoE: the layers of Qwen3.5 with experts; `delta_net` and `changes` are those of Qwen3.5."""
    own = {
        "rope.dimension_count": int(config.head_size * config.rope.get("partial_rotary_factor", 0.25)),
        "rope.dimension_sections": [*config.rope.get("mrope_section", (11, 11, 10)), 0],
    }
    return _gated(config, "qwen35moe", delta_net, changes, own)


def _gated(config: Config, name: str, inner: dict[str, str], changes: dict[str, Change], own: dict[str, Any]) -> Layout:
    """Layers of gated attention among layers of gated delta-net, experts beside a shared one behind a gate."""
    if config.values.get("mlp_only_layers") or config.values.get("decoder_sparse_step", 1) != 1:
        raise config.refuse("layers without experts")
    if not config.values.get("norm_topk_prob", True):
        raise config.refuse("norm_topk_prob = false")
    if config.need("linear_key_head_dim") != config.need("linear_value_head_dim"):
        raise config.refuse("key and value heads of different size in the delta-net")
    kinds, experts = config.need("layer_types"), config.need("num_experts")
    centred: Change = lambda arrays: arrays[0] + np.float32(1)  # noqa: E731  the norms store weight - 1
    norms = {"attn_norm.weight": NORMS["attn_norm.weight"], "post_attention_norm.weight": NORMS["ffn_norm.weight"]}
    changes = changes | dict.fromkeys((*norms, *QK_NORMS), centred)
    changes["ffn_gate_inp_shexp.weight"] = lambda arrays: arrays[0].reshape(-1)
    mixers = {
        "full_attention": ATTENTION | QK_NORMS,
        "linear_attention": {made: f"linear_attn.{source}" for made, source in inner.items()},
    }
    tensors = [
        Planned(tensor.name, tensor.sources, centred if tensor.name == "output_norm.weight" else tensor.change)
        for tensor in frame(config)
    ]
    for number, kind in enumerate(kinds):
        tensors += layer(number, norms | mixers[kind] | GATED_SHARED, changes) + stacked(number, experts)
    heads = config.need("linear_num_value_heads")
    whole = Config({"intermediate_size": 0} | config.values, config.where)
    keys = (
        common_keys(whole)
        | own
        | {
            "ssm.conv_kernel": config.need("linear_conv_kernel_dim"),
            "ssm.state_size": config.need("linear_key_head_dim"),
            "ssm.group_count": config.need("linear_num_key_heads"),
            "ssm.time_step_rank": heads,
            "ssm.inner_size": config.need("linear_value_head_dim") * heads,
            "attention.recurrent_layers": [kind == "linear_attention" for kind in kinds],
            "full_attention_interval": config.values.get("full_attention_interval", 4),
            "expert_count": experts,
            "expert_used_count": config.need("num_experts_per_tok"),
            "expert_feed_forward_length": config.need("moe_intermediate_size"),
            "expert_shared_feed_forward_length": config.need("shared_expert_intermediate_size"),
        }
    )
    return Layout(name, keys, tensors, left_out=("mtp.",))


def kimi_linear(config: Config) -> Layout:
    """Kimi Linear: delta attention with a decay of every channel among latent attention without positions."""
    if config.need("linear_num_heads") != config.need("num_attention_heads"):
        raise config.refuse("another number of heads in the layers of delta attention")
    config.without_effect("topk_group")  # of one group
    if config.values.get("num_expert_group", 1) != 1 or not config.values.get("moe_renormalize", True):
        raise config.refuse("groups of experts, or shares that are not normalized")
    kinds, experts, dense = config.need("layer_types"), config.need("num_experts"), _dense_first(config)
    latent, changes = latent_attention(config)
    inner = KIMI_DELTA | {name: source.removeprefix("self_attn.") for name, source in ATTENTION.items()}
    changes = changes | {f"ssm_conv1d_{part}.weight": _four for part in "qkv"}
    changes["ssm_a"] = lambda arrays: -_exp(arrays[0]).reshape(-1, 1)
    mixers = {"full_attention": latent, "linear_attention": {name: f"self_attn.{source}" for name, source in inner.items()}}
    tensors = frame(config)
    for number, kind in enumerate(kinds):
        feed = FEED_FORWARD if number < dense else _kimi_routed()
        tensors += layer(number, NORMS | mixers[kind] | feed, changes)
        tensors += [] if number < dense else _kimi_experts(number, experts)
    # no layer has rotary positions, but llama.cpp asks for their base
    named = {"rope_parameters": {"rope_theta": 10000.0}, "max_position_embeddings": config.need("model_max_length")}
    keys = latent_keys(Config(config.values | named, config.where))
    keys |= {
        "vocab_size": config.need("vocab_size"),
        "attention.head_count_kv": [int(kind == "full_attention") for kind in kinds],
        "kda.head_dim": config.need("linear_head_dim"),
        "ssm.conv_kernel": config.need("linear_conv_kernel_dim"),
        "leading_dense_block_count": dense,
        "expert_count": experts,
        "expert_used_count": config.need("num_experts_per_token"),
        "expert_feed_forward_length": config.need("moe_intermediate_size"),
        "expert_shared_count": config.need("num_shared_experts"),
        "expert_weights_scale": float(config.need("routed_scaling_factor")),
        "expert_gating_func": SIGMOID,
    }
    return Layout("kimi-linear", keys, tensors)


def lfm2(config: Config) -> Layout:
    """LFM2: gated short convolutions among attention with norms on the heads of q and k."""
    if config.head_size * config.need("num_attention_heads") != config.need("hidden_size"):
        raise config.refuse("heads that are together wider or narrower than the hidden size")
    if config.values.get("conv_bias") or not config.values.get("tie_word_embeddings", True):
        raise config.refuse("conv_bias, or a head of its own")
    if config.rope.get("rope_type", "default") != "default":
        raise config.refuse("rope scaling")
    kinds, width = config.need("layer_types"), _lfm2_width(config)
    feed = {"ffn_norm.weight": "ffn_norm.weight", "attn_norm.weight": "operator_norm.weight"}
    feed |= {
        f"ffn_{part}.weight": f"feed_forward.{source}.weight" for part, source in (("gate", "w1"), ("down", "w2"), ("up", "w3"))
    }
    attention = {name: source.replace("o_proj", "out_proj") for name, source in ATTENTION.items()}
    attention |= {f"attn_{letter}_norm.weight": f"self_attn.{letter}_layernorm.weight" for letter in "qk"}
    short = {f"shortconv.{part}.weight": f"conv.{part}.weight" for part in ("conv", "in_proj", "out_proj")}
    tensors = [
        Planned("token_embd.weight", ("model.embed_tokens.weight",)),
        Planned("token_embd_norm.weight", ("model.embedding_norm.weight",)),
    ]
    for number, kind in enumerate(kinds):
        names = feed | (attention if kind == "full_attention" else short)
        tensors += layer(number, names, {"shortconv.conv.weight": lambda arrays: arrays[0].squeeze(1)})
    whole = {"hidden_act": "silu", "rms_norm_eps": config.need("norm_eps"), "intermediate_size": width}
    keys = common_keys(Config(config.values | whole, config.where)) | {
        "attention.head_count_kv": [config.need("num_key_value_heads") if kind == "full_attention" else 0 for kind in kinds],
        "vocab_size": config.need("vocab_size"),
        "shortconv.l_cache": config.need("conv_L_cache"),
    }
    return Layout("lfm2", keys, tensors)


def _lfm2_width(config: Config) -> int:
    """The inner size of the feed-forward block, which the config may give before it is cut to two thirds and rounded up."""
    width = int(config.need("intermediate_size"))
    config.without_effect("block_ffn_dim_multiplier", "block_multiple_of")
    if not config.values.get("block_auto_adjust_ff_dim", True):
        return width
    width = int(config.values.get("block_ffn_dim_multiplier", 1.0) * int(2 * width / 3))
    unit = int(config.values.get("block_multiple_of", 256))
    return unit * ((width + unit - 1) // unit)


def _dense_first(config: Config) -> int:
    kinds = config.values.get("mlp_layer_types") or ["sparse"] * config.need("num_hidden_layers")
    dense = kinds.count("dense")
    if "dense" in kinds[dense:]:
        raise config.refuse("dense layers after those with experts")
    return int(dense)


def _kimi_routed() -> dict[str, str]:
    place = "block_sparse_moe"
    names = {f"ffn_{part}_shexp.weight": f"{place}.shared_experts.{part}_proj.weight" for part in ("gate", "up", "down")}
    return names | {"ffn_gate_inp.weight": f"{place}.gate.weight", "exp_probs_b.bias": f"{place}.gate.e_score_correction_bias"}


def _kimi_experts(number: int, experts: int) -> list[Planned]:
    made = []
    for part, source in (("gate", "w1"), ("down", "w2"), ("up", "w3")):
        sources = tuple(f"model.layers.{number}.block_sparse_moe.experts.{at}.{source}.weight" for at in range(experts))
        made.append(Planned(f"blk.{number}.ffn_{part}_exps.weight", sources, np.stack))
    return made


def _four(arrays: list[Array]) -> Array:
    """A convolution [C, 1, K] as (1, C, 1, K)."""
    return arrays[0].reshape(1, arrays[0].shape[0], 1, -1)


def _exp(array: Array) -> Array:
    """exp in float32, rounded correctly as PyTorch's is; NumPy's in float32 is not."""
    return np.exp(array.astype(np.float64)).astype(np.float32)


DELTAS = {
    "Qwen3NextForCausalLM": qwen3_next,
    "KimiLinearForCausalLM": kimi_linear,
    "Lfm2ForCausalLM": lfm2,
}
