"""GGUF layouts of the families with attention windows, fused projections or sinks: Mistral, Gemma, Phi 3, GPT-OSS.

Facts are llama.cpp's (its converter and `src/models/`). What it would compute otherwise than the config says
is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from logitproof.gguf.layout import (
    ATTENTION,
    FEED_FORWARD,
    NORMS,
    QK_NORMS,
    QKV_BIASES,
    Change,
    Config,
    Layout,
    Planned,
    common_keys,
    frame,
    layer,
)

NO_SINK = np.float32(-1e30)
"""A sink that takes no share of any softmax."""
GEMMA_NORMS = {
    "attn_norm.weight": "input_layernorm.weight",
    "post_attention_norm.weight": "post_attention_layernorm.weight",
    "ffn_norm.weight": "pre_feedforward_layernorm.weight",
    "post_ffw_norm.weight": "post_feedforward_layernorm.weight",
}
Make = Callable[[Config], Layout]
CENTRED: Change = lambda arrays: arrays[0] + np.float32(1)  # noqa: E731
"""Norms of Gemma store weight - 1."""


def mistral(llama: Make) -> Make:
    """Mistral is Llama; with a window, llama.cpp has it only as Granite, whose multipliers are one here."""

    def made(config: Config) -> Layout:
        plain = llama(config)
        window = config.values.get("sliding_window")
        if window is None:
            return plain
        heads, layers = config.need("num_attention_heads"), config.need("num_hidden_layers")
        sinks = [Planned(f"blk.{at}.attn_sinks.weight", (), lambda _: np.full(heads, NO_SINK)) for at in range(layers)]
        keys = {
            "logit_scale": 1.0,
            "attention.sliding_window": window,
            "attention.sliding_window_pattern": [True] * layers,
        }
        return Layout("granite_swa", plain.keys | keys, plain.tensors + sinks)

    return made


def gemma1(config: Config) -> Layout:
    """Gemma, the first: norms that store weight - 1, embeddings scaled by the root of the width, tanh's GELU."""
    if not config.values.get("tie_word_embeddings", True) or config.values.get("attention_bias"):
        raise config.refuse("a head of its own, or attention_bias")
    if config.values.get("use_bidirectional_attention"):
        raise config.refuse("attention in both directions")
    # what the first configs call gelu is tanh's GELU all the same, as transformers reads them
    act = {"gelu": "gelu_pytorch_tanh"}.get(config.need("hidden_act"), config.need("hidden_act"))
    tied = Config(config.values | {"tie_word_embeddings": True, "hidden_act": act}, config.where)
    tensors = _centred(frame(tied))
    for number in range(config.need("num_hidden_layers")):
        tensors += layer(number, NORMS | ATTENTION | FEED_FORWARD, dict.fromkeys(NORMS, CENTRED))
    return Layout("gemma", common_keys(tied, "gelu_pytorch_tanh"), tensors)


def gemma2(config: Config) -> Layout:
    """Gemma 2: four norms a layer, soft-caps, every other layer with a window."""
    keys = {"attn_logit_softcapping": float(config.need("attn_logit_softcapping"))}
    return _gemma("gemma2", config, GEMMA_NORMS, keys)


def gemma3(config: Config) -> Layout:
    """Gemma 3: norms on the heads of q and k, and another rotary base in the layers with a window."""
    if config.values.get("attn_logit_softcapping"):
        raise config.refuse("attn_logit_softcapping")
    rope = config.need("rope_parameters")
    whole = Config(config.values | {"rope_parameters": rope["full_attention"]}, config.where)
    if rope["sliding_attention"].get("rope_type", "default") != "default":
        raise config.refuse("rope scaling in the layers with a window")
    keys = {"rope.freq_base_swa": float(rope["sliding_attention"]["rope_theta"])}
    return _gemma("gemma3", whole, GEMMA_NORMS | QK_NORMS, keys)


def _gemma(name: str, config: Config, norms: dict[str, str], own: dict[str, Any]) -> Layout:
    """What both generations share. The norms store weight - 1, and the queries are scaled by the head size."""
    if config.need("query_pre_attn_scalar") != config.head_size:
        raise config.refuse("query_pre_attn_scalar other than the head size")
    activated = Config(config.values | {"hidden_act": config.need("hidden_activation")}, config.where)
    tensors = _centred(frame(config))
    for number in range(config.need("num_hidden_layers")):
        tensors += layer(number, norms | ATTENTION | FEED_FORWARD, dict.fromkeys(norms, CENTRED))
    keys = common_keys(activated, "gelu_pytorch_tanh") | own | _windows(config)
    if config.values.get("final_logit_softcapping"):
        keys["final_logit_softcapping"] = float(config.values["final_logit_softcapping"])
    return Layout(name, keys, tensors)


def _centred(tensors: list[Planned]) -> list[Planned]:
    """The tensors, norms as Gemma stores them."""
    return [
        Planned(planned.name, planned.sources, CENTRED if "norm" in planned.name else planned.change) for planned in tensors
    ]


def phi3(config: Config) -> Layout:
    """Phi 3: q, k, v in one matrix, gate and up in one, rotary positions on a part of each head."""
    if config.values.get("sliding_window") is not None:
        raise config.refuse("sliding-window attention")
    if config.head_size * config.need("num_attention_heads") != config.need("hidden_size"):
        raise config.refuse("heads that are together wider than the hidden size")
    rope, size = config.rope, config.head_size
    original = rope.get("original_max_position_embeddings") or config.need("original_max_position_embeddings")
    turned = int(size * rope.get("partial_rotary_factor", 1.0))
    tensors, keys = frame(config), {"rope.dimension_count": turned, "rope.scaling.original_context_length": original}
    if rope.get("rope_type") == "longrope":
        for kind in ("long", "short"):
            tensors.append(Planned(f"rope_factors_{kind}.weight", (), _constant(rope[f"{kind}_factor"])))
        keys |= {"rope.scaling.type": "longrope", "rope.scaling.attn_factor": _longrope_scale(config, original)}
        config = Config(config.values | {"rope_parameters": {"rope_theta": rope["rope_theta"]}}, config.where)
    names = NORMS | {
        "attn_qkv.weight": "self_attn.qkv_proj.weight",
        "attn_output.weight": ATTENTION["attn_output.weight"],
        "ffn_up.weight": "mlp.gate_up_proj.weight",
        "ffn_down.weight": FEED_FORWARD["ffn_down.weight"],
    }
    for number in range(config.need("num_hidden_layers")):
        tensors += layer(number, names)
    return Layout("phi3", common_keys(config) | keys, tensors)


def gpt_oss(config: Config) -> Layout:
    """GPT-OSS: sinks, biases everywhere, gate and up of an expert in alternate columns."""
    alpha, limit = config.values.get("swiglu_alpha", 1.702), config.values.get("swiglu_limit", 7.0)
    if (alpha, limit) != (1.702, 7.0):
        raise config.refuse(f"swiglu_alpha {alpha} and swiglu_limit {limit}")
    if not config.values.get("attention_bias", True):
        raise config.refuse("attention without biases")
    names = ATTENTION | QKV_BIASES | {
        "attn_norm.weight": "input_layernorm.weight",
        "post_attention_norm.weight": "post_attention_layernorm.weight",
        "attn_output.bias": "self_attn.o_proj.bias",
        "attn_sinks.weight": "self_attn.sinks",
        "ffn_gate_inp.weight": "mlp.router.weight",
        "ffn_gate_inp.bias": "mlp.router.bias",
        "ffn_gate_exps.weight": "mlp.experts.gate_up_proj",
        "ffn_gate_exps.bias": "mlp.experts.gate_up_proj_bias",
        "ffn_up_exps.weight": "mlp.experts.gate_up_proj",
        "ffn_up_exps.bias": "mlp.experts.gate_up_proj_bias",
        "ffn_down_exps.weight": "mlp.experts.down_proj",
        "ffn_down_exps.bias": "mlp.experts.down_proj_bias",
    }  # fmt: skip
    changes: dict[str, Change] = {
        "ffn_gate_exps.weight": lambda arrays: arrays[0][..., ::2].swapaxes(1, 2),
        "ffn_up_exps.weight": lambda arrays: arrays[0][..., 1::2].swapaxes(1, 2),
        "ffn_gate_exps.bias": lambda arrays: arrays[0][..., ::2],
        "ffn_up_exps.bias": lambda arrays: arrays[0][..., 1::2],
        "ffn_down_exps.weight": lambda arrays: arrays[0].swapaxes(1, 2),
    }
    tensors = frame(config)
    for number in range(config.need("num_hidden_layers")):
        tensors += layer(number, names, changes)
    keys = {
        "expert_count": config.need("num_local_experts"),
        "expert_used_count": config.need("num_experts_per_tok"),
        "expert_feed_forward_length": config.need("intermediate_size"),
    }
    return Layout("gpt-oss", common_keys(config) | keys | _windows(config), tensors)


def _windows(config: Config) -> dict[str, Any]:
    """The window, and which layers have it."""
    return {
        "attention.sliding_window": config.need("sliding_window"),
        "attention.sliding_window_pattern": [kind == "sliding_attention" for kind in config.need("layer_types")],
    }


def _constant(values: list[float]) -> Change:
    return lambda _: np.asarray(values, np.float32)


def _longrope_scale(config: Config, original: int) -> float:
    """What LongRoPE multiplies cosine and sine by: sqrt(1 + ln s / ln original), s = context / original."""
    if config.rope.get("attention_factor") or config.rope.get("factor"):
        raise config.refuse("an own factor of longrope")
    stretch = config.need("max_position_embeddings") / original
    return float(np.sqrt(1 + np.log(stretch) / np.log(original))) if stretch > 1 else 1.0
