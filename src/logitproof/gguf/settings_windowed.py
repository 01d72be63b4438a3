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
