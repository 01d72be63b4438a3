"""What a GGUF file of each model family holds: its keys, and its tensors as functions of checkpoint tensors.

To add a family, write a function that gives its `Layout` and enter it in `ARCHITECTURES` under the name that
config.json has in `architectures`; a package of your own registers such a function in the entry-point group
`logitproof.layouts`. A layout names every tensor, so the caller can tell what is missing and
what is left over. Facts are llama.cpp's (its converter and `src/models/`); shapes are those of PyTorch.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from logitproof.errors import ContractError, ModelError
from logitproof.files.causes import cause_of
from logitproof.gguf.deltas import DELTAS, qwen3_5_moe
from logitproof.gguf.dense import DENSE
from logitproof.gguf.experts import glm4_moe, qwen2_moe, stacked
from logitproof.gguf.gemma4 import gemma4
from logitproof.gguf.latent import LATENT
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
from logitproof.gguf.rotary import llama3_tensors, neighbours
from logitproof.gguf.routed import ROUTED
from logitproof.gguf.scans import SCANS
from logitproof.gguf.windowed import gemma1, gemma2, gemma3, gpt_oss, mistral, phi3
from logitproof.weights.checkpoint import Array
from logitproof.weights.config import architecture_of


def llama(config: Config) -> Layout:
    """Llama 2 and 3: rotary pairs are neighbours in GGUF, halves in the checkpoint."""
    heads, kv_heads, size = config.need("num_attention_heads"), config.need("num_key_value_heads"), config.head_size
    names = NORMS | ATTENTION | FEED_FORWARD
    if config.values.get("attention_bias"):
        names = names | QKV_BIASES | {"attn_output.bias": "self_attn.o_proj.bias"}
    pairs = {f"attn_q.{kind}": neighbours(heads) for kind in ("weight", "bias")}
    pairs |= {f"attn_k.{kind}": neighbours(kv_heads) for kind in ("weight", "bias")}
    tensors = frame(config)
    for number in range(config.need("num_hidden_layers")):
        tensors += layer(number, names, pairs)
    tensors = llama3_tensors(config) + tensors
    keys = {"vocab_size": config.need("vocab_size"), "rope.dimension_count": size}
    # transformers fills head_dim in for Llama, so the converter writes the lengths always
    keys |= {"attention.key_length": size, "attention.value_length": size}
    return Layout("llama", common_keys(config) | keys, tensors)


def smollm3(config: Config) -> Layout:
    """SmolLM3: Llama without rotary positions in every fourth layer, which llama.cpp takes for granted."""
    layers = config.need("num_hidden_layers")
    if config.need("no_rope_layers") != [int((number + 1) % 4 != 0) for number in range(layers)]:
        raise config.refuse("rotary positions left out in other layers than every fourth")
    if config.values.get("use_sliding_window"):
        raise config.refuse("sliding-window attention")
    config.without_effect("no_rope_layer_interval")
    plain = llama(config)
    return Layout("smollm3", plain.keys, plain.tensors)


def granite(config: Config) -> Layout:
    """Granite: Llama with four factors, of the embedding, the residual stream, the attention scores and the logits."""
    plain = llama(config)
    keys = {
        "embedding_scale": float(config.need("embedding_multiplier")),
        "residual_scale": float(config.need("residual_multiplier")),
        "attention.scale": float(config.need("attention_multiplier")),
        "logit_scale": float(config.need("logits_scaling")),
    }
    return Layout("granite", plain.keys | keys, plain.tensors)


def qwen2(config: Config) -> Layout:
    """Qwen2 and Qwen2.5: biases on q, k and v."""
    return _plain("qwen2", config, NORMS | ATTENTION | QKV_BIASES | FEED_FORWARD)


def qwen3(config: Config) -> Layout:
    """Qwen3: a norm on every head of q and k."""
    return _plain("qwen3", config, NORMS | ATTENTION | QK_NORMS | FEED_FORWARD)


def _plain(name: str, config: Config, names: dict[str, str]) -> Layout:
    """A family whose layers are alike and whose tensors are only renamed."""
    if config.values.get("use_sliding_window"):
        raise config.refuse("sliding-window attention")
    tensors = frame(config)
    for number in range(config.need("num_hidden_layers")):
        tensors += layer(number, names)
    return Layout(name, common_keys(config), tensors)


def qwen3_moe(config: Config) -> Layout:
    """Qwen3-MoE: the experts' matrices are stacked, shape (X, rows, columns)."""
    if config.values.get("mlp_only_layers") or config.values.get("decoder_sparse_step", 1) != 1:
        raise config.refuse("layers without experts")
    if not config.values.get("norm_topk_prob"):
        raise config.refuse("norm_topk_prob = false")
    experts = config.values.get("num_local_experts") or config.need("num_experts")  # renamed in transformers 5
    plain = _plain("qwen3moe", config, NORMS | ATTENTION | QK_NORMS | {"ffn_gate_inp.weight": "mlp.gate.weight"})
    for number in range(config.need("num_hidden_layers")):
        plain.tensors.extend(stacked(number, experts))
    keys = {
        "expert_count": experts,
        "expert_used_count": config.need("num_experts_per_tok"),
        "expert_feed_forward_length": config.need("moe_intermediate_size"),
    }
    return Layout("qwen3moe", plain.keys | keys, plain.tensors)


DELTA_NET = {
    "attn_qkv.weight": "in_proj_qkv.weight",
    "attn_gate.weight": "in_proj_z.weight",
    "ssm_beta.weight": "in_proj_b.weight",
    "ssm_alpha.weight": "in_proj_a.weight",
    "ssm_a": "A_log",
    "ssm_dt.bias": "dt_bias",
    "ssm_conv1d.weight": "conv1d.weight",
    "ssm_norm.weight": "norm.weight",
    "ssm_out.weight": "out_proj.weight",
}


def qwen3_5(config: Config) -> Layout:
    """Qwen3.5: layers of gated attention among layers of gated delta-net; the draft head (mtp) is left out."""
    kinds = config.need("layer_types")
    one_centred: Change = lambda arrays: arrays[0] + np.float32(1)  # noqa: E731  its norms store weight - 1
    norms = {"attn_norm.weight": NORMS["attn_norm.weight"], "post_attention_norm.weight": NORMS["ffn_norm.weight"]}
    centred = dict.fromkeys((*norms, *QK_NORMS), one_centred)
    changes = centred | _delta_net_changes(config)
    mixers = {
        "full_attention": ATTENTION | QK_NORMS,
        "linear_attention": {name: f"linear_attn.{source}" for name, source in DELTA_NET.items()},
    }
    tensors = [
        Planned(planned.name, planned.sources, one_centred if planned.name == "output_norm.weight" else planned.change)
        for planned in frame(config)
    ]
    for number, kind in enumerate(kinds):
        tensors += layer(number, norms | mixers[kind] | FEED_FORWARD, changes)
    keys = (
        common_keys(config)
        | _delta_net_keys(config)
        | {
            "attention.recurrent_layers": [kind == "linear_attention" for kind in kinds],
            # only read where recurrent_layers is missing
            "full_attention_interval": config.values.get("full_attention_interval", 4),
            "rope.dimension_count": int(config.head_size * config.rope.get("partial_rotary_factor", 0.25)),
            "rope.dimension_sections": [*config.rope.get("mrope_section", (11, 11, 10)), 0],
        }
    )
    return Layout("qwen35", keys, tensors, left_out=("mtp.",))


def _delta_net_keys(config: Config) -> dict[str, Any]:
    """The state-space keys under which GGUF files a delta-net's sizes."""
    if config.need("linear_key_head_dim") != config.need("linear_value_head_dim"):
        raise config.refuse("key and value heads of different size in the delta-net")
    return {
        "ssm.conv_kernel": config.need("linear_conv_kernel_dim"),
        "ssm.state_size": config.need("linear_key_head_dim"),
        "ssm.group_count": config.need("linear_num_key_heads"),
        "ssm.time_step_rank": config.need("linear_num_value_heads"),
        "ssm.inner_size": config.need("linear_value_head_dim") * config.need("linear_num_value_heads"),
    }


def _delta_net_changes(config: Config) -> dict[str, Change]:
    """Value heads stand grouped by key head in the checkpoint and dealt out in turn in GGUF.

    So everything with a value-head axis is reordered, and the decay is stored as -exp(A_log).
    """
    groups, heads, size = (
        config.need(name) for name in ("linear_num_key_heads", "linear_num_value_heads", "linear_value_head_dim")
    )
    keys = 2 * groups * config.need("linear_key_head_dim")  # rows of q and k, which come before v

    def dealt(array: Array, width: int, axis: int = 0) -> Array:
        order = np.arange(heads * width).reshape(groups, heads // groups, width).swapaxes(0, 1).ravel()
        return np.take(array, order, axis=axis)

    def after_keys(array: Array) -> Array:
        return np.concatenate([array[:keys], dealt(array[keys:], size)])

    return {
        "attn_qkv.weight": lambda arrays: after_keys(arrays[0]),
        "ssm_conv1d.weight": lambda arrays: after_keys(arrays[0].squeeze(1)),
        "attn_gate.weight": lambda arrays: dealt(arrays[0], size),
        "ssm_out.weight": lambda arrays: dealt(arrays[0], size, axis=1),
        "ssm_beta.weight": lambda arrays: dealt(arrays[0], 1),
        "ssm_alpha.weight": lambda arrays: dealt(arrays[0], 1),
        "ssm_dt.bias": lambda arrays: dealt(arrays[0], 1),
        "ssm_a": lambda arrays: dealt(-_exp(arrays[0]), 1),
    }


def _exp(array: Array) -> Array:
    """exp in float32, rounded correctly as PyTorch's is; NumPy's in float32 is not."""
    return np.exp(array.astype(np.float64)).astype(np.float32)


ARCHITECTURES: dict[str, Callable[[Config], Layout]] = {
    "LlamaForCausalLM": llama,
    "Qwen2ForCausalLM": qwen2,
    "Qwen3ForCausalLM": qwen3,
    "Qwen3MoeForCausalLM": qwen3_moe,
    "Qwen3_5ForCausalLM": qwen3_5,
    "Qwen2MoeForCausalLM": qwen2_moe,
    "Glm4MoeForCausalLM": glm4_moe,
    "SmolLM3ForCausalLM": smollm3,
    "GraniteForCausalLM": granite,
    "MistralForCausalLM": mistral(llama),
    "GemmaForCausalLM": gemma1,
    "Gemma2ForCausalLM": gemma2,
    "Gemma3ForCausalLM": gemma3,
    "Gemma4ForCausalLM": gemma4,
    "Phi3ForCausalLM": phi3,
    "GptOssForCausalLM": gpt_oss,
    "Qwen3_5MoeForCausalLM": lambda config: qwen3_5_moe(config, DELTA_NET, _delta_net_changes(config)),
    **DELTAS,
    **DENSE,
    **LATENT,
    **ROUTED,
    **SCANS,
}


def layout_of(values: dict[str, Any], where: str) -> Layout:
    """The layout for a config.json; ContractError for a family that is not in the table."""
    named = architecture_of(values, Path(where)) or "nothing"
    known = ARCHITECTURES | _registered()
    if named not in known:
        raise ContractError(f"unknown architecture {named!r}", where=where, remedy=f"known: {', '.join(sorted(known))}")
    try:
        return known[named](Config(values, where))
    except (ArithmeticError, AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        text = f"a value is of the wrong kind for {named}: {cause_of(error)}"
        raise ModelError(text, where=where, remedy="take config.json from the model's publisher") from None


def _registered() -> dict[str, Callable[[Config], Layout]]:
    """Layouts of other packages: functions in the entry-point group `logitproof.layouts`, by the architecture's name."""
    return {point.name: point.load() for point in importlib.metadata.entry_points(group="logitproof.layouts")}
