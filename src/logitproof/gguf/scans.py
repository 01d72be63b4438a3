"""GGUF layouts of families with Mamba-2 scans: alone, beside attention, and in turn with it.

Facts are llama.cpp's (its converter and `src/models/`). A layer without heads of K and V is one with a state.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from logitproof.gguf.layout import ATTENTION, NORMS, Change, Config, Layout, Planned, common_keys, layer
from logitproof.gguf.rotary import neighbours
from logitproof.weights.checkpoint import Array

SCAN = {
    "ssm_in.weight": "in_proj.weight",
    "ssm_conv1d.weight": "conv1d.weight",
    "ssm_conv1d.bias": "conv1d.bias",
    "ssm_dt.bias": "dt_bias",
    "ssm_a": "A_log",
    "ssm_d": "D",
    "ssm_norm.weight": "norm.weight",
    "ssm_out.weight": "out_proj.weight",
}
NO_EXPERTS = (
    "moe_intermediate_size", "moe_shared_expert_intermediate_size", "moe_shared_expert_overlap", "n_group", "n_routed_experts",
    "n_shared_experts", "norm_topk_prob", "num_experts_per_tok", "topk_group", "mamba_ssm_cache_dtype", "time_step_limit",
)  # fmt: skip
"""Fields of Nemotron-H that layers of experts read, of which there are none here, or nothing."""


def mamba2(config: Config) -> Layout:
    """Mamba-2 alone: a norm, a scan and nothing else in a layer."""
    sizes = _sizes(config, "num_heads", "head_dim", "n_groups", "state_size", "conv_kernel")
    _check_scan(config, "hidden_act", "use_conv_bias")
    if config.values.get("use_bias"):
        raise config.refuse("use_bias")
    tensors = _frame(config, "backbone.embeddings.weight", "backbone.norm_f.weight")
    names = {"attn_norm.weight": "norm.weight"} | {name: f"mixer.{source}" for name, source in SCAN.items()}
    for number in range(config.need("num_hidden_layers")):
        tensors += _layer("backbone", number, names, scan_changes(config, config.need("n_groups")))
    keys = sizes | {
        "context_length": config.values.get("max_position_embeddings") or 2**20,
        "embedding_length": config.need("hidden_size"),
        "feed_forward_length": 0,
        "attention.head_count": 0,
        "block_count": config.need("num_hidden_layers"),
        "attention.layer_norm_rms_epsilon": float(config.need("layer_norm_epsilon")),
    }
    return Layout("mamba2", keys, tensors)


def falcon_h1(config: Config) -> Layout:
    """Falcon-H1: scan and attention read the same norm, and every path has a factor, which the file's weights hold."""
    if config.values.get("mamba_proj_bias") or config.values.get("attention_bias") or config.values.get("mlp_bias"):
        raise config.refuse("biases of projections")
    if config.rope.get("rope_type", "default") != "default":
        raise config.refuse("rope scaling")
    _check_scan(config, "hidden_act", "mamba_conv_bias")
    inside = {name: f"mamba.{source}" for name, source in SCAN.items() if "norm" not in name or config.need("mamba_rms_norm")}
    names = {"attn_norm.weight": "input_layernorm.weight", "ffn_norm": "pre_ff_layernorm.weight"} | inside | ATTENTION
    names |= {f"ffn_{part}.weight": f"feed_forward.{part}_proj.weight" for part in ("gate", "up", "down")}
    changes = scan_changes(config, config.need("mamba_n_groups")) | _falcon_factors(config)
    tensors = [
        Planned("token_embd.weight", ("model.embed_tokens.weight",), _times(config.need("embedding_multiplier"))),
        Planned("output_norm.weight", ("model.final_layernorm.weight",)),
        Planned("output.weight", ("lm_head.weight",), _times(config.need("lm_head_multiplier"))),
    ]
    for number in range(config.need("num_hidden_layers")):
        tensors += layer(number, names, changes)
    keys = common_keys(config) | {"vocab_size": config.need("vocab_size")} | _mamba_sizes(config)
    return Layout("falcon-h1", keys | {"ssm.inner_size": config.need("mamba_d_ssm")}, tensors)


def nemotron_h(config: Config) -> Layout:
    """Nemotron-H: each layer is a scan, attention without positions, or a feed-forward block with a squared ReLU."""
    kinds = config.need("layers_block_type")
    if set(kinds) - {"mamba", "linear_attention", "attention", "full_attention", "mlp"}:
        raise config.refuse(f"layers of other kinds among {sorted(set(kinds))}")
    if config.values.get("mamba_proj_bias") or config.values.get("mlp_bias") or config.values.get("attention_bias"):
        raise config.refuse("biases of projections")
    if config.need("mlp_hidden_act") != "relu2":
        raise config.refuse(f"activation {config.need('mlp_hidden_act')!r}")
    # steps are never shorter than time_step_min in transformers, which no key of the file can say
    _check_scan(config, "mamba_hidden_act", "use_conv_bias", limited=False)
    config.without_effect(*NO_EXPERTS)
    mixers = {
        "mamba": SCAN,
        "attention": {name: source.replace("self_attn.", "") for name, source in ATTENTION.items()},
        "mlp": {"ffn_up.weight": "up_proj.weight", "ffn_down.weight": "down_proj.weight"},
    }
    named = [{"linear_attention": "mamba", "full_attention": "attention"}.get(kind, kind) for kind in kinds]
    tensors = _frame(config, "backbone.embeddings.weight", "backbone.norm_f.weight")
    for number, kind in enumerate(named):
        names = {"attn_norm.weight": "norm.weight"} | {name: f"mixer.{source}" for name, source in mixers[kind].items()}
        tensors += _layer("backbone", number, names, scan_changes(config, config.need("n_groups")))
    sizes = _sizes(config, "mamba_num_heads", "mamba_head_dim", "n_groups", "ssm_state_size", "conv_kernel")
    eps = float(config.need("layer_norm_epsilon"))
    keys = sizes | {
        "context_length": config.need("max_position_embeddings"),
        "embedding_length": config.need("hidden_size"),
        "block_count": len(kinds),
        "vocab_size": config.need("vocab_size"),
        "attention.head_count": config.need("num_attention_heads"),
        "attention.head_count_kv": [config.need("num_key_value_heads") if kind == "attention" else 0 for kind in named],
        "feed_forward_length": [config.need("intermediate_size") if kind == "mlp" else 0 for kind in named],
        "attention.key_length": config.head_size,
        "attention.value_length": config.head_size,
        "attention.layer_norm_epsilon": eps,
        "attention.layer_norm_rms_epsilon": eps,
        "rope.dimension_count": config.head_size,
    }
    return Layout("nemotron_h", keys, tensors)


def granite_hybrid(config: Config) -> Layout:
    """Granite 4: scans among attention layers, experts beside a shared one, and Granite's four factors."""
    kinds = ["attention" if kind in ("attention", "full_attention") else "mamba" for kind in config.need("layer_types")]
    if config.values.get("position_embedding_type") == "rope":
        raise config.refuse("rotary positions beside scans")
    if config.values.get("attention_bias") or config.values.get("mamba_proj_bias"):
        raise config.refuse("biases of projections")
    if config.need("mamba_expand") != 2:
        raise config.refuse("an inner size of the scan that is not twice the hidden size")
    _check_scan(config, "hidden_act", "mamba_conv_bias")
    heads, kv_heads = config.need("num_attention_heads"), config.need("num_key_value_heads")
    changes = scan_changes(config, config.need("mamba_n_groups"))
    changes |= {"attn_q.weight": neighbours(heads), "attn_k.weight": neighbours(kv_heads)}
    mixers = {"mamba": {name: f"mamba.{source}" for name, source in SCAN.items()}, "attention": ATTENTION}
    feed, fed = _granite_experts(config)
    tensors = _frame(config, "model.embed_tokens.weight", "model.norm.weight")
    for number, kind in enumerate(kinds):
        tensors += layer(number, NORMS | mixers[kind] | feed, changes | fed)
    keys = (
        common_keys(config)
        | _mamba_sizes(config)
        | {
            "vocab_size": config.need("vocab_size"),
            "attention.head_count_kv": [kv_heads if kind == "attention" else 0 for kind in kinds],
            "rope.scaling.finetuned": False,
            "embedding_scale": float(config.need("embedding_multiplier")),
            "residual_scale": float(config.need("residual_multiplier")),
            "attention.scale": float(config.need("attention_multiplier")),
            "logit_scale": float(config.need("logits_scaling")),
            "expert_count": config.values.get("num_local_experts") or 0,
            "expert_used_count": config.values.get("num_experts_per_tok") or 0,
            "expert_shared_feed_forward_length": config.need("shared_intermediate_size"),
        }
    )
    return Layout("granitehybrid", keys, tensors)


def _check_scan(config: Config, activation: str, bias: str, *, limited: bool = True) -> None:
    """Refuse what llama.cpp takes for granted of a scan: SiLU, a convolution with bias, steps of any size."""
    if config.values.get(activation, "silu") != "silu":
        raise config.refuse(f"{activation} {config.values[activation]!r}")
    if not config.values.get(bias, True):
        raise config.refuse("a convolution without bias")
    low, high = (_number(end) for end in config.values.get("time_step_limit") or (0.0, math.inf))
    if limited and (low > 0 or high != math.inf):
        raise config.refuse(f"steps of a scan held between {low} and {high}")
    config.without_effect("expand", "mamba_expand", *(("time_step_min",) if limited else ()))


def _number(value: Any) -> float:
    """A number of config.json; transformers writes infinity as an object."""
    return float(value["__float__"] if isinstance(value, dict) else value)


def scan_changes(config: Config, groups: int) -> dict[str, Change]:
    """What GGUF keeps otherwise of a scan: -exp(A_log), one column for A and D, a flat convolution, a norm by groups."""
    return {
        "ssm_a": lambda arrays: -np.exp(arrays[0].astype(np.float64)).astype(np.float32)[:, None],
        "ssm_d": lambda arrays: arrays[0][:, None],
        "ssm_conv1d.weight": lambda arrays: arrays[0].squeeze(1),
        "ssm_norm.weight": lambda arrays: arrays[0].reshape(groups, -1),
    }


def _granite_experts(config: Config) -> tuple[dict[str, str], dict[str, Change]]:
    """The feed-forward part of a Granite 4 layer: gate and up lie one after the other in each tensor."""
    width, shared = config.need("intermediate_size"), config.need("shared_intermediate_size")
    alone = not config.values.get("num_local_experts")
    suffix = "" if alone else "_shexp"
    names = {f"ffn_{part}{suffix}.weight": "shared_mlp.input_linear.weight" for part in ("gate", "up")}
    names |= {f"ffn_down{suffix}.weight": "shared_mlp.output_linear.weight"}
    changes: dict[str, Change] = {
        f"ffn_gate{suffix}.weight": lambda arrays: arrays[0][:shared],
        f"ffn_up{suffix}.weight": lambda arrays: arrays[0][shared:],
    }
    if alone:
        return names, changes
    names |= {f"ffn_{part}_exps.weight": "block_sparse_moe.input_linear.weight" for part in ("gate", "up")}
    names |= {
        "ffn_down_exps.weight": "block_sparse_moe.output_linear.weight",
        "ffn_gate_inp.weight": "block_sparse_moe.router.layer.weight",
    }
    return names, changes | {
        "ffn_gate_exps.weight": lambda arrays: arrays[0][:, :width],
        "ffn_up_exps.weight": lambda arrays: arrays[0][:, width:],
    }


def _falcon_factors(config: Config) -> dict[str, Change]:
    read, gate_down, parts = (config.need(name) for name in ("attention_in_multiplier", "mlp_multipliers", "ssm_multipliers"))
    factor, inner, state = (
        np.float32(config.need("ssm_in_multiplier")),
        config.need("mamba_d_ssm"),
        config.need("mamba_n_groups") * config.need("mamba_d_state"),
    )
    rows = np.repeat(np.asarray(parts, np.float32), [inner, inner, state, state, config.need("mamba_n_heads")])
    return {
        "attn_q.weight": _times(read),
        "attn_k.weight": _times(config.need("key_multiplier") * read),
        "attn_v.weight": _times(read),
        "attn_output.weight": _times(config.need("attention_out_multiplier")),
        "ffn_gate.weight": _times(gate_down[0]),
        "ffn_down.weight": _times(gate_down[1]),
        "ssm_out.weight": _times(config.need("ssm_out_multiplier")),
        "ssm_in.weight": lambda arrays: arrays[0] * factor * rows[:, None],
    }


def _times(factor: float) -> Change:
    def change(arrays: list[Array]) -> Array:
        return np.asarray(arrays[0] * np.float32(factor))

    return change


def _mamba_sizes(config: Config) -> dict[str, Any]:
    return _sizes(config, "mamba_n_heads", "mamba_d_head", "mamba_n_groups", "mamba_d_state", "mamba_d_conv")


def _sizes(config: Config, heads: str, size: str, groups: str, state: str, taps: str) -> dict[str, Any]:
    """The sizes of a scan, from the fields that the config has them in."""
    return {
        "ssm.conv_kernel": config.need(taps),
        "ssm.inner_size": config.need(heads) * config.need(size),
        "ssm.state_size": config.need(state),
        "ssm.time_step_rank": config.need(heads),
        "ssm.group_count": config.need(groups),
    }


def _frame(config: Config, embedding: str, norm: str) -> list[Planned]:
    tensors = [Planned("token_embd.weight", (embedding,)), Planned("output_norm.weight", (norm,))]
    return tensors if config.values.get("tie_word_embeddings") else [*tensors, Planned("output.weight", ("lm_head.weight",))]


def _layer(prefix: str, number: int, names: dict[str, str], changes: dict[str, Change]) -> list[Planned]:
    """As `layer`, in checkpoints whose layers are called otherwise than `model.layers`."""
    made = layer(number, names, changes)
    return [
        Planned(tensor.name, tuple(source.replace("model.", f"{prefix}.", 1) for source in tensor.sources), tensor.change)
        for tensor in made
    ]


SCANS = {
    "Mamba2ForCausalLM": mamba2,
    "FalconH1ForCausalLM": falcon_h1,
    "NemotronHForCausalLM": nemotron_h,
    "GraniteMoeHybridForCausalLM": granite_hybrid,
}
