"""GGUF layouts of dense families with a habit of their own: Cohere 2, OLMo 2 and 3, EXAONE 4, Seed-OSS, GLM-4 and others.

Facts are llama.cpp's (its converter and `src/models/`). What it would compute otherwise than the config says
is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from logitproof.gguf.layout import (
    ATTENTION,
    FEED_FORWARD,
    NORMS,
    QK_NORMS,
    QKV_BIASES,
    Config,
    Layout,
    Planned,
    common_keys,
    frame,
    layer,
)
from logitproof.gguf.rotary import llama3_tensors, neighbours

POST_NORMS = {
    "post_attention_norm.weight": "post_attention_layernorm.weight",
    "post_ffw_norm.weight": "post_feedforward_layernorm.weight",
}
"""Norms of what a block adds, in families that have none before it."""
UNGATED = {name: source for name, source in FEED_FORWARD.items() if "gate" not in name}


def cohere2(config: Config) -> Layout:
    """Cohere 2: attention and feed-forward block side by side behind one LayerNorm; global layers have no positions."""
    kinds = config.need("layer_types")
    _heads_as_wide_as_hidden(config)
    if config.values.get("attention_bias") or not config.values.get("tie_word_embeddings", True):
        raise config.refuse("attention_bias or a head of its own")
    if config.rope.get("rope_type", "default") != "default":
        raise config.refuse(f"rope scaling {config.rope}")
    eps = float(config.need("layer_norm_eps"))
    keys = common_keys(_with(config, rms_norm_eps=eps, tie_word_embeddings=True))
    del keys["attention.layer_norm_rms_epsilon"]
    keys |= {
        "attention.layer_norm_epsilon": eps,
        "logit_scale": float(config.need("logit_scale")),
        "vocab_size": config.need("vocab_size"),
        "rope.dimension_count": config.head_size,
        "rope.scaling.type": "none",
    } | _windows(config, kinds)
    norm = {"attn_norm.weight": "input_layernorm.weight"}
    return Layout("cohere2", keys, _tied(config) + _layers(config, norm | ATTENTION | FEED_FORWARD))


def olmo2(config: Config) -> Layout:
    """OLMo 2 and 3: norms behind the blocks alone, and over all heads of q and of k; OLMo 3 has windows."""
    _heads_as_wide_as_hidden(config)
    if config.values.get("attention_bias") or config.values.get("tie_word_embeddings"):
        raise config.refuse("attention_bias or a tied head")
    keys: dict[str, Any] = {}
    if config.values.get("sliding_window"):
        rope, keys = config.need("rope_parameters"), _windows(config, config.need("layer_types"))
        if rope.get("sliding_attention", {}).get("rope_type", "default") != "default":
            raise config.refuse("rope scaling in the layers with a window")
        if rope.get("sliding_attention", rope)["rope_theta"] != rope.get("full_attention", rope)["rope_theta"]:
            raise config.refuse("two rotary bases")
        keys["rope.freq_base_swa"] = float(rope.get("sliding_attention", rope)["rope_theta"])
        config = _with(config, rope_parameters=rope.get("full_attention", rope))
    return Layout(
        "olmo2", common_keys(config) | keys, frame(config) + _layers(config, POST_NORMS | ATTENTION | QK_NORMS | FEED_FORWARD)
    )


def exaone4(config: Config) -> Layout:
    """EXAONE 4: norms behind the blocks alone, and on the heads of q and k."""
    _heads_as_wide_as_hidden(config)
    if config.values.get("sliding_window"):
        raise config.refuse("sliding-window attention, which llama.cpp has in the EXAONE 4 of 64 layers alone")
    tensors = llama3_tensors(config) + frame(config)
    tensors += _layers(config, POST_NORMS | ATTENTION | QK_NORMS | FEED_FORWARD)
    return Layout("exaone4", common_keys(config) | {"vocab_size": config.need("vocab_size")}, tensors)


def seed_oss(config: Config) -> Layout:
    """Seed-OSS: Qwen 2 with heads that need not be together as wide as the hidden size."""
    if config.values.get("mlp_bias") or config.values.get("attention_out_bias"):
        raise config.refuse("mlp_bias or attention_out_bias")
    names = ATTENTION | FEED_FORWARD | (QKV_BIASES if config.values.get("attention_bias", True) else {})
    names |= {"attn_norm.weight": NORMS["attn_norm.weight"], "post_attention_norm.weight": NORMS["ffn_norm.weight"]}
    return Layout("seed_oss", common_keys(config), frame(config) + _layers(config, names))


def hunyuan(config: Config) -> Layout:
    """Hunyuan: norms on the heads of q and k after the rotation."""
    if config.values.get("attention_bias") or config.rope.get("rope_type", "default") != "default":
        raise config.refuse("attention_bias or rope scaling")
    names = NORMS | ATTENTION | FEED_FORWARD
    names |= {"attn_q_norm.weight": "self_attn.query_layernorm.weight", "attn_k_norm.weight": "self_attn.key_layernorm.weight"}
    return Layout("hunyuan-dense", common_keys(config), frame(config) + _layers(config, names))


def apertus(config: Config) -> Layout:
    """Apertus: xIELU with slopes of its own in every layer, and no gate; the slopes are keys of the file."""
    if config.values.get("attention_bias"):
        raise config.refuse("attention_bias")
    names = ATTENTION | QK_NORMS | UNGATED
    names |= {"attn_norm.weight": "attention_layernorm.weight", "ffn_norm.weight": "feedforward_layernorm.weight"}
    layers = config.need("num_hidden_layers")
    slopes = {
        f"xielu.{name}": [f"model.layers.{number}.mlp.act_fn.{name}" for number in range(layers)]
        for name in ("alpha_n", "alpha_p", "beta", "eps")
    }
    tensors = llama3_tensors(config) + frame(config) + _layers(config, names)
    keys = common_keys(config, "xielu") | {"vocab_size": config.need("vocab_size"), "rope.dimension_count": config.head_size}
    return Layout("apertus", keys, tensors, measured=slopes)


def arcee(config: Config) -> Layout:
    """Arcee: Llama with a squared ReLU and no gate."""
    if config.values.get("attention_bias") or config.values.get("mlp_bias"):
        raise config.refuse("attention_bias or mlp_bias")
    heads, kv_heads, size = config.need("num_attention_heads"), config.need("num_key_value_heads"), config.head_size
    pairs = {"attn_q.weight": neighbours(heads), "attn_k.weight": neighbours(kv_heads)}
    tensors = llama3_tensors(config) + frame(config)
    for number in range(config.need("num_hidden_layers")):
        tensors += layer(number, NORMS | ATTENTION | UNGATED, pairs)
    keys = common_keys(config, "relu2") | {"vocab_size": config.need("vocab_size"), "rope.dimension_count": size}
    return Layout("arcee", keys | {"attention.key_length": size, "attention.value_length": size}, tensors)


def glm4(config: Config) -> Layout:
    """GLM-4, the dense ones: norms before and behind the blocks, gate and up in one matrix, half of each head rotated."""
    if config.rope.get("rope_type", "default") != "default" or config.rope.get("mrope_section"):
        raise config.refuse(f"rotary parameters {config.rope}")
    names = ATTENTION | (QKV_BIASES if config.values.get("attention_bias", True) else {}) | {
        "attn_norm.weight": "input_layernorm.weight",
        "post_attention_norm.weight": "post_self_attn_layernorm.weight",
        "ffn_norm.weight": "post_attention_layernorm.weight",
        "post_ffw_norm.weight": "post_mlp_layernorm.weight",
        "ffn_up.weight": "mlp.gate_up_proj.weight",
        "ffn_down.weight": FEED_FORWARD["ffn_down.weight"],
    }  # fmt: skip
    keys = {"rope.dimension_count": int(config.head_size * config.rope.get("partial_rotary_factor", 0.5))}
    return Layout("glm4", common_keys(config) | keys, frame(config) + _layers(config, names))


DENSE: dict[str, Callable[[Config], Layout]] = {
    "Cohere2ForCausalLM": cohere2,
    "Olmo2ForCausalLM": olmo2,
    "Olmo3ForCausalLM": olmo2,
    "Exaone4ForCausalLM": exaone4,
    "SeedOssForCausalLM": seed_oss,
    "HunYuanDenseV1ForCausalLM": hunyuan,
    "ApertusForCausalLM": apertus,
    "ArceeForCausalLM": arcee,
    "Glm4ForCausalLM": glm4,
}


def _layers(config: Config, names: dict[str, str]) -> list[Planned]:
    return [tensor for number in range(config.need("num_hidden_layers")) for tensor in layer(number, names)]


def _tied(config: Config) -> list[Planned]:
    return frame(_with(config, tie_word_embeddings=True))


def _with(config: Config, **changes: Any) -> Config:
    return Config(config.values | changes, config.where)


def _windows(config: Config, kinds: list[str]) -> dict[str, Any]:
    """The window, and which layers have it."""
    return {
        "attention.sliding_window": config.need("sliding_window"),
        "attention.sliding_window_pattern": [kind == "sliding_attention" for kind in kinds],
    }


def _heads_as_wide_as_hidden(config: Config) -> None:
    if config.head_size * config.need("num_attention_heads") != config.need("hidden_size"):
        raise config.refuse("heads that are together wider or narrower than the hidden size")
