"""Configs of the families with attention windows, fused projections or sinks: Gemma, Phi 3, GPT-OSS."""

from __future__ import annotations

from logitproof.gguf.metadata import Metadata
from logitproof.gguf.settings_common import Values, common, windows


def gemma(meta: Metadata, name: str, kind: str, most: int) -> Values:
    """What the generations of Gemma share; the largest of `most` layers scales its queries by another size."""
    config = common(meta, name, kind, attention_bias=False, hidden_activation="gelu_pytorch_tanh")
    del config["hidden_act"]
    size = config["hidden_size"] // config["num_attention_heads"]
    scalar = size if config["num_hidden_layers"] == most else config["head_dim"]
    meta.assume("query_pre_attn_scalar", scalar, f"llama.cpp's loader of {meta.architecture}")
    return config | {"query_pre_attn_scalar": scalar}


def gemma1(meta: Metadata) -> Values:
    """Gemma, the first: norms before the blocks alone, and no window."""
    config = common(meta, "GemmaForCausalLM", "gemma", attention_bias=False, hidden_act="gelu_pytorch_tanh")
    return config | {"tie_word_embeddings": True}


def gemma2(meta: Metadata) -> Values:
    """Gemma 2: soft-caps, every other layer with a window."""
    config = gemma(meta, "Gemma2ForCausalLM", "gemma2", 46)
    rule = "llama.cpp's loader of Gemma 2"
    return config | {
        "sliding_window": int(meta.value("attention.sliding_window", 4096, rule)),
        "layer_types": windows(meta, config["num_hidden_layers"], 2),
        "attn_logit_softcapping": float(meta.value("attn_logit_softcapping", 50.0, rule)),
        "final_logit_softcapping": float(meta.value("final_logit_softcapping", 30.0, rule)),
    }


def gemma3(meta: Metadata) -> Values:
    """Gemma 3: five layers with a window and one without, and another rotary base in those with a window."""
    config = gemma(meta, "Gemma3ForCausalLM", "gemma3_text", 62)
    local = float(meta.value("rope.freq_base_swa", 10000.0, "llama.cpp's loader of Gemma 3: the base of layers with a window"))
    config["rope_parameters"] = {
        "full_attention": config["rope_parameters"],
        "sliding_attention": {"rope_theta": local, "rope_type": "default"},
    }
    return config | {
        "sliding_window": meta.count("attention.sliding_window"),
        "layer_types": windows(meta, config["num_hidden_layers"], 6),
        "final_logit_softcapping": float(meta.optional("final_logit_softcapping", 0.0)) or None,
        "attn_logit_softcapping": None,
        "use_bidirectional_attention": False,
    }


def gemma4(meta: Metadata) -> Values:
    """Gemma 4: two sizes of heads, layers that share keys and values, embeddings for every layer, experts in some models."""
    layers, per_layer = meta.count("block_count"), int(meta.optional("embedding_length_per_layer_input", 0))
    shared = int(meta.optional("attention.shared_kv_layers", 0))
    kinds = windows(meta, layers, 6)
    kv, widths = meta.by_layer("attention.head_count_kv", layers), meta.by_layer("feed_forward_length", layers)
    if set(kinds) != {"full_attention", "sliding_attention"} or not meta.has("rope_freqs.weight"):
        raise meta.refusal("attention.sliding_window_pattern", "has one kind of layers, or rope_freqs.weight is missing")
    full, windowed = (kinds.index(kind) for kind in ("full_attention", "sliding_attention"))
    config = common(meta, "Gemma4ForCausalLM", "gemma4_text", num_key_value_heads=kv[windowed], intermediate_size=widths[0])
    base, rule = config["rope_parameters"]["rope_theta"], "llama.cpp's loader of Gemma 4"
    local = float(meta.value("rope.freq_base_swa", 10000.0, rule))
    divisors = meta.values("rope_freqs.weight")
    own = {"head_dim": meta.count("attention.key_length")}
    own |= {"num_key_value_heads": kv[full]} if kv[full] != kv[windowed] else {}
    del config["hidden_act"]
    return config | _gemma4_experts(meta) | {
        "attention_bias": False, "hidden_activation": "gelu_pytorch_tanh", "layer_types": kinds,
        "head_dim": meta.count("attention.key_length_swa"), "sliding_window": meta.count("attention.sliding_window"),
        "per_layer_config": {str(number): own for number, kind in enumerate(kinds) if kind == "full_attention"},
        "attention_k_eq_v": meta.has(f"blk.{full}.attn_k.weight") and not meta.has(f"blk.{full}.attn_v.weight"),
        "num_kv_shared_layers": shared, "use_double_wide_mlp": bool(shared) and widths[-1] == 2 * widths[0],
        "hidden_size_per_layer_input": per_layer, "vocab_size_per_layer_input": config["vocab_size"],
        "final_logit_softcapping": float(meta.value("final_logit_softcapping", 30.0, rule)) or None,
        "rope_parameters": {
            "full_attention": {
                "rope_type": "proportional", "rope_theta": base,
                "partial_rotary_factor": float((divisors == 1).sum() / max(divisors.size, 1)),
            },
            "sliding_attention": {"rope_type": "default", "rope_theta": local},
        },
    }  # fmt: skip


def _gemma4_experts(meta: Metadata) -> Values:
    count = int(meta.optional("expert_count", 0))
    if not count:
        return {"enable_moe_block": False}
    used, width = meta.count("expert_used_count"), meta.count("expert_feed_forward_length")
    return {"enable_moe_block": True, "num_experts": count, "top_k_experts": used, "moe_intermediate_size": width}


def phi3(meta: Metadata) -> Values:
    """Phi 3: rotary positions on a part of each head, LongRoPE's factors as tensors, a window that llama.cpp leaves out."""
    config = common(meta, "Phi3ForCausalLM", "phi3", sliding_window=None)
    if meta.optional("attention.sliding_window", 0):
        meta.assume("sliding_window", None, "llama.cpp computes Phi 3 without the window that the file names")
    size = config["hidden_size"] // config["num_attention_heads"]
    turned = int(meta.optional("rope.dimension_count", size))
    context = config["max_position_embeddings"]
    original = int(meta.value("rope.scaling.original_context_length", context, "the context length"))
    parameters = config["rope_parameters"] | {"partial_rotary_factor": turned / size}
    if meta.has("rope_factors_long.weight"):
        parameters |= {"rope_type": "longrope", "original_max_position_embeddings": original}
        for kind in ("long", "short"):
            held = meta.values(f"rope_factors_{kind}.weight")
            parameters[f"{kind}_factor"] = [float(str(value)) for value in held]
    return config | {"rope_parameters": parameters, "original_max_position_embeddings": original}


def gpt_oss(meta: Metadata) -> Values:
    """GPT-OSS: sinks, biases everywhere, every other layer with a window."""
    config = common(meta, "GptOssForCausalLM", "gpt_oss", attention_bias=True)
    for key, value in (("swiglu_alpha", 1.702), ("swiglu_limit", 7.0)):
        meta.assume(key, value, "llama.cpp's graph of gpt-oss")
        config[key] = value
    width = {"intermediate_size": meta.count("expert_feed_forward_length")}
    return config | width | {
        "num_local_experts": meta.count("expert_count"),
        "num_experts_per_tok": meta.count("expert_used_count"),
        "sliding_window": meta.count("attention.sliding_window"),
        "layer_types": windows(meta, config["num_hidden_layers"], 2),
    }  # fmt: skip
