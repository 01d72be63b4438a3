"""Configs of families whose layers keep a state: Mamba-2 scans, gated delta-nets, delta attention, short convolutions."""

from __future__ import annotations

from collections.abc import Callable

from logitproof.gguf.experts import SIGMOID
from logitproof.gguf.metadata import Metadata
from logitproof.gguf.settings_common import Values, common, experts, turned, vocabulary
from logitproof.gguf.settings_experts import latent

KV_HEADS = "attention.head_count_kv"
FACTORS = ("embedding", "attention_in", "attention_out", "key", "lm_head", "ssm_in", "ssm_out")
"""Those of Falcon-H1, which a converter multiplies into the weights."""


def mamba2(meta: Metadata) -> Values:
    """Mamba-2 alone."""
    sizes = scan(meta, "num_heads", "head_dim", "n_groups", "state_size", "conv_kernel")
    width, inner = meta.count("embedding_length"), meta.count("ssm.inner_size")
    if inner % width:
        raise meta.refusal("ssm.inner_size", f"is {inner}, which is no multiple of the width {width}")
    return sizes | {
        "architectures": ["Mamba2ForCausalLM"], "model_type": "mamba2", "vocab_size": vocabulary(meta),
        "hidden_size": width, "num_hidden_layers": meta.count("block_count"),
        "layer_norm_epsilon": meta.need("attention.layer_norm_rms_epsilon"), "hidden_act": "silu",
        "expand": inner // width,
        "max_position_embeddings": meta.count("context_length"), "use_bias": False, "use_conv_bias": True,
        "tie_word_embeddings": not meta.has("output.weight"), "dtype": "float32",
    }  # fmt: skip


def scan(meta: Metadata, heads: str, size: str, groups: str, state: str, taps: str) -> Values:
    """The sizes of a scan, under the names that a family has for them."""
    count, inner = meta.count("ssm.time_step_rank"), meta.count("ssm.inner_size")
    if not count or inner % count:
        raise meta.refusal("ssm.inner_size", f"is {inner}, which {count} heads do not divide")
    return {
        heads: count,
        size: inner // count,
        groups: meta.count("ssm.group_count"),
        state: meta.count("ssm.state_size"),
        taps: meta.count("ssm.conv_kernel"),
    }


def mamba_of(meta: Metadata) -> Values:
    """A scan beside attention, as Falcon-H1 and Granite 4 name its sizes."""
    return scan(meta, "mamba_n_heads", "mamba_d_head", "mamba_n_groups", "mamba_d_state", "mamba_d_conv") | {
        "mamba_proj_bias": False, "mamba_conv_bias": meta.has("blk.0.ssm_conv1d.bias"),
    }  # fmt: skip


def falcon_h1(meta: Metadata) -> Values:
    """Falcon-H1: the factors of its paths are in the file's weights, so that here they are one."""
    config = common(meta, "FalconH1ForCausalLM", "falcon_h1", attention_bias=False, mlp_bias=False, projectors_bias=False)
    for name in (*FACTORS, "ssm", "mlp"):
        meta.assume(f"{name}_multiplier", 1.0, "a converter multiplies it into the weights")
    return config | mamba_of(meta) | {f"{name}_multiplier": 1.0 for name in FACTORS} | {
        "mamba_d_ssm": meta.count("ssm.inner_size"), "mamba_expand": 2,
        "mamba_rms_norm": meta.has("blk.0.ssm_norm.weight"), "mamba_norm_before_gate": False,
        "ssm_multipliers": [1.0] * 5, "mlp_multipliers": [1.0] * 2,
    }  # fmt: skip


def nemotron_h(meta: Metadata) -> Values:
    """Nemotron-H: what a layer has heads for or a width of, says its kind."""
    if meta.optional("expert_count", 0):
        raise meta.refusal("expert_count", "is not 0: a Nemotron-H of experts is not known")
    layers = meta.count("block_count")
    sizes = zip(meta.by_layer(KV_HEADS, layers), meta.by_layer("feed_forward_length", layers), strict=True)
    kinds = ["full_attention" if heads else "mlp" if width else "linear_attention" for heads, width in sizes]
    size = meta.count("embedding_length") // meta.count("attention.head_count")
    eps = meta.optional("attention.layer_norm_epsilon", None) or meta.need("attention.layer_norm_rms_epsilon")
    return scan(meta, "mamba_num_heads", "mamba_head_dim", "n_groups", "ssm_state_size", "conv_kernel") | {
        "architectures": ["NemotronHForCausalLM"], "model_type": "nemotron_h", "vocab_size": vocabulary(meta),
        "hidden_size": meta.count("embedding_length"), "layers_block_type": kinds,
        "intermediate_size": meta.largest("feed_forward_length", layers),
        "num_attention_heads": meta.count("attention.head_count"), "num_key_value_heads": meta.largest(KV_HEADS, layers),
        "head_dim": int(meta.optional("attention.key_length", size)), "layer_norm_epsilon": eps,
        "max_position_embeddings": meta.count("context_length"), "mlp_hidden_act": "relu2", "mamba_hidden_act": "silu",
        "mamba_proj_bias": False, "mlp_bias": False, "attention_bias": False, "use_bias": False,
        "use_conv_bias": any(name.endswith("ssm_conv1d.bias") for name in meta.tensors), "expand": 2,
        "residual_in_fp32": False, "tie_word_embeddings": not meta.has("output.weight"), "dtype": "float32",
    }  # fmt: skip


def granite_hybrid(meta: Metadata) -> Values:
    """Granite 4: layers without heads of K and V are scans."""
    if meta.optional("rope.scaling.finetuned", True):
        raise meta.refusal("rope.scaling.finetuned", "is not false: a Granite 4 with rotary positions is not known")
    layers = meta.count("block_count")
    kinds = ["full_attention" if count else "linear_attention" for count in meta.by_layer(KV_HEADS, layers)]
    heads = meta.largest(KV_HEADS, layers) or meta.count("attention.head_count")
    config = common(meta, "GraniteMoeHybridForCausalLM", "granitemoehybrid", num_key_value_heads=heads, attention_bias=False)
    rule = "llama.cpp's loader of Granite 4"
    mamba = mamba_of(meta) | {"mamba_conv_bias": any(name.endswith("ssm_conv1d.bias") for name in meta.tensors)}
    return config | mamba | {
        "layer_types": kinds, "position_embedding_type": "nope", "mamba_expand": 2,
        "embedding_multiplier": float(meta.value("embedding_scale", 1.0, rule)),
        "residual_multiplier": float(meta.value("residual_scale", 1.0, rule)),
        "attention_multiplier": float(meta.value("attention.scale", config["head_dim"] ** -0.5, rule)),
        "logits_scaling": float(meta.value("logit_scale", 1.0, rule)),
        "num_local_experts": int(meta.optional("expert_count", 0)),
        "num_experts_per_tok": int(meta.optional("expert_used_count", 0)),
        "shared_intermediate_size": meta.count("expert_shared_feed_forward_length"),
    }  # fmt: skip


def lfm2(meta: Metadata) -> Values:
    """LFM2: layers without heads of K and V are short convolutions."""
    layers = meta.count("block_count")
    if meta.optional("attention.sliding_window", 0):
        raise meta.refusal("attention.sliding_window", "is not 0: an LFM2 with windows is not known")
    kinds = ["full_attention" if count else "conv" for count in meta.by_layer(KV_HEADS, layers)]
    heads = meta.largest(KV_HEADS, layers) or meta.count("attention.head_count")
    config = common(meta, "Lfm2ForCausalLM", "lfm2", num_key_value_heads=heads)
    eps = config.pop("rms_norm_eps")
    del config["hidden_act"]
    return config | {
        "norm_eps": eps, "layer_types": kinds, "conv_L_cache": meta.count("shortconv.l_cache"), "conv_bias": False,
        "block_auto_adjust_ff_dim": False, "tie_word_embeddings": True,
    }  # fmt: skip


def qwen3_next(meta: Metadata) -> Values:
    """Qwen3-Next: the layers of Qwen3.5 with experts, and rotary positions of one kind."""
    return _gated(meta, "Qwen3NextForCausalLM", "qwen3_next", sections=False) | {
        "norm_topk_prob": True, "decoder_sparse_step": 1, "mlp_only_layers": [],
    }  # fmt: skip


def qwen3_5_moe(meta: Metadata) -> Values:
    """Qwen3.5-MoE."""
    return _gated(meta, "Qwen3_5MoeForCausalLM", "qwen3_5_moe_text", sections=True)


def _gated(meta: Metadata, name: str, kind: str, *, sections: bool) -> Values:
    config = common(meta, name, kind, attention_bias=False)
    config["rope_parameters"] |= gated_rope(meta, config, sections=sections)
    config |= experts(meta, "num_experts") | recurrent(meta, config["num_hidden_layers"]) | delta_net(meta)
    return config | {"shared_expert_intermediate_size": meta.count("expert_shared_feed_forward_length")}


def gated_rope(meta: Metadata, config: Values, *, sections: bool) -> Values:
    """The part of each head that is rotated, and by which of three positions where a family has several."""
    made: Values = {"partial_rotary_factor": turned(meta, config)}
    if sections:
        counts = [int(count) for count in meta.need("rope.dimension_sections")][:3]
        made |= {"mrope_interleaved": True, "mrope_section": counts}
    return made


def recurrent(meta: Metadata, layers: int) -> Values:
    """Which layers are delta-nets."""
    if "attention.recurrent_layers" in meta.keys:
        flags = [bool(flag) for flag in meta.need("attention.recurrent_layers")][:layers]
    else:
        interval = int(meta.value("full_attention_interval", 4, f"llama.cpp's loader of {meta.architecture}"))
        flags = [(number + 1) % interval != 0 for number in range(layers)]
    return {"layer_types": ["linear_attention" if flag else "full_attention" for flag in flags]}


def delta_net(meta: Metadata) -> Values:
    """The sizes of a gated delta-net."""
    heads = meta.count("ssm.time_step_rank")
    return {
        "linear_conv_kernel_dim": meta.count("ssm.conv_kernel"),
        "linear_key_head_dim": meta.count("ssm.state_size"),
        "linear_num_key_heads": meta.count("ssm.group_count"),
        "linear_num_value_heads": heads,
        "linear_value_head_dim": meta.count("ssm.inner_size") // heads,
    }


def kimi_linear(meta: Metadata) -> Values:
    """Kimi Linear: layers without heads of K and V are delta attention."""
    if meta.need("expert_gating_func") != SIGMOID:
        raise meta.refusal("expert_gating_func", "is not the sigmoid of Kimi Linear")
    layers, heads, rule = meta.count("block_count"), meta.count("attention.head_count"), "llama.cpp's loader of Kimi Linear"
    config = common(meta, "KimiLinearForCausalLM", "kimi_linear", num_key_value_heads=heads, attention_bias=False)
    config |= latent(meta, {})
    del config["rope_parameters"], config["max_position_embeddings"]
    dense = int(meta.value("leading_dense_block_count", 0, rule))
    return config | {
        "head_dim": config["qk_head_dim"],
        "layer_types": ["full_attention" if count else "linear_attention" for count in meta.by_layer(KV_HEADS, layers)],
        "mlp_layer_types": ["dense"] * dense + ["sparse"] * (layers - dense),
        "model_max_length": meta.count("context_length"),
        "linear_num_heads": heads, "linear_head_dim": meta.count("kda.head_dim"),
        "linear_conv_kernel_dim": meta.count("ssm.conv_kernel"),
        "num_experts": meta.count("expert_count"), "num_experts_per_token": meta.count("expert_used_count"),
        "moe_intermediate_size": meta.count("expert_feed_forward_length"),
        "num_shared_experts": meta.count("expert_shared_count"),
        "routed_scaling_factor": float(meta.value("expert_weights_scale", 1.0, rule)),
        "moe_renormalize": True, "num_expert_group": 1, "topk_group": 1,
    }  # fmt: skip


STATES: dict[str, Callable[[Metadata], Values]] = {
    "mamba2": mamba2,
    "falcon-h1": falcon_h1,
    "nemotron_h": nemotron_h,
    "granitehybrid": granite_hybrid,
    "lfm2": lfm2,
    "qwen3next": qwen3_next,
    "qwen35moe": qwen3_5_moe,
    "kimi-linear": kimi_linear,
}
