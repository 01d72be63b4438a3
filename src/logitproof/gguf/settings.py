"""config.json from the metadata of a GGUF file: the layouts of families backwards.

To add a family, write a function that gives its config and enter it in `FAMILIES` under the architecture's name in GGUF.
What a file does not say is what llama.cpp's own loader takes (src/models/), and is noted as assumed. A config is right
when the family's layout makes the file's keys of it again, which `settings_of` asks of every file.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from logitproof.errors import ContractError, ModelError
from logitproof.files.causes import cause_of
from logitproof.gguf.families import layout_of
from logitproof.gguf.layout import Layout
from logitproof.gguf.metadata import AGAIN, Metadata
from logitproof.gguf.settings_common import Values, common, experts, llama3_rope
from logitproof.gguf.settings_dense import DENSE
from logitproof.gguf.settings_experts import EXPERTS
from logitproof.gguf.settings_states import STATES, delta_net, gated_rope, recurrent
from logitproof.gguf.settings_windowed import gemma1, gemma2, gemma3, gemma4, gpt_oss, phi3

EVERY_FOURTH = 4
NO_SINK = -1e29
"""A sink below it takes no share of any softmax: how a windowed Mistral is written as Granite."""


def llama(meta: Metadata, name: str = "LlamaForCausalLM", kind: str = "llama") -> Values:
    """Llama; the divisors of its frequencies are a tensor, from which the settings of `llama3` are found."""
    if meta.optional("expert_count", 0):
        raise meta.refusal("expert_count", "is not 0: a Llama of experts is not known")
    bias = meta.has("blk.0.attn_q.bias")
    size = int(meta.optional("rope.dimension_count", 0))
    config = common(meta, name, kind, attention_bias=bias, mlp_bias=False)
    if size and "attention.key_length" not in meta.keys:
        config["head_dim"] = size
    return llama3_rope(meta, config)


def smollm3(meta: Metadata) -> Values:
    """SmolLM3: no rotary positions in every fourth layer, which llama.cpp takes for granted."""
    config = llama(meta, "SmolLM3ForCausalLM", "smollm3")
    layers = range(config["num_hidden_layers"])
    config["no_rope_layers"] = [int((number + 1) % EVERY_FOURTH != 0) for number in layers]
    meta.assume("no_rope_layers", f"every {EVERY_FOURTH}th", "llama.cpp's loader of SmolLM3 has no key for it")
    return config | {"no_rope_layer_interval": EVERY_FOURTH, "use_sliding_window": False, "layer_types": None}


def granite(meta: Metadata) -> Values:
    """Granite: Llama with four factors."""
    head = 1 / meta.count("embedding_length") ** 0.5
    factors = {
        "logits_scaling": float(meta.need("logit_scale")),
        "residual_multiplier": float(meta.value("residual_scale", 1.0, "llama.cpp's loader of Granite")),
        "embedding_multiplier": float(meta.value("embedding_scale", 1.0, "llama.cpp's loader of Granite")),
    }
    config = llama(meta, "GraniteForCausalLM", "granite")
    head = config["head_dim"] ** -0.5
    scale = float(meta.value("attention.scale", head, "1 over the root of the head size"))
    return config | factors | {"attention_multiplier": scale}


def windowed_mistral(meta: Metadata) -> Values:
    """A Mistral with a window in every layer, which llama.cpp has as Granite with sinks that take nothing."""
    every = all(meta.need("attention.sliding_window_pattern"))
    sinks = [name for name in meta.tensors if name.endswith("attn_sinks.weight")]
    plain = all((meta.values(name) < NO_SINK).all() for name in sinks) and float(meta.need("logit_scale")) == 1.0
    if not every or not plain or any(key in meta.keys for key in ("residual_scale", "embedding_scale", "attention.scale")):
        raise meta.refusal("attention.sliding_window_pattern", "is of a Granite with windows, which is not known")
    config = llama(meta, "MistralForCausalLM", "mistral")
    return config | {"sliding_window": meta.count("attention.sliding_window")}


def qwen2(meta: Metadata) -> Values:
    """Qwen2 and Qwen2.5."""
    return common(meta, "Qwen2ForCausalLM", "qwen2", use_sliding_window=False)


def qwen3(meta: Metadata) -> Values:
    """Qwen3."""
    return common(meta, "Qwen3ForCausalLM", "qwen3", use_sliding_window=False, attention_bias=False)


def qwen3_moe(meta: Metadata) -> Values:
    """Qwen3-MoE: shares of the chosen experts sum to one, which llama.cpp takes for granted."""
    meta.assume("norm_topk_prob", True, "llama.cpp's graph of qwen3moe")
    more = {"norm_topk_prob": True, "decoder_sparse_step": 1, "mlp_only_layers": [], "use_sliding_window": False}
    return common(meta, "Qwen3MoeForCausalLM", "qwen3_moe", attention_bias=False) | more | experts(meta, "num_local_experts")


def qwen2_moe(meta: Metadata) -> Values:
    """Qwen2-MoE: shares of the chosen experts as they are, and a shared expert."""
    meta.assume("norm_topk_prob", False, "llama.cpp's graph of qwen2moe")
    more = {"norm_topk_prob": False, "decoder_sparse_step": 1, "mlp_only_layers": [], "use_sliding_window": False}
    more |= {"shared_expert_intermediate_size": meta.count("expert_shared_feed_forward_length"), "qkv_bias": True}
    return common(meta, "Qwen2MoeForCausalLM", "qwen2_moe") | more | experts(meta, "num_experts")


def qwen3_5(meta: Metadata) -> Values:
    """Qwen3.5: layers of gated attention among layers of gated delta-net."""
    config = common(meta, "Qwen3_5ForCausalLM", "qwen3_5_text", attention_bias=False)
    config["rope_parameters"] |= gated_rope(meta, config, sections=True)
    return config | recurrent(meta, config["num_hidden_layers"]) | delta_net(meta)


def glm4_moe(meta: Metadata) -> Values:
    """GLM-4-MoE."""
    config = common(meta, "Glm4MoeForCausalLM", "glm4_moe", attention_bias=meta.has("blk.0.attn_q.bias"), use_qk_norm=False)
    turned = int(meta.optional("rope.dimension_count", config["head_dim"]))
    config["rope_parameters"]["partial_rotary_factor"] = turned / config["head_dim"]
    rule = "llama.cpp's loader of GLM-4-MoE"
    return config | experts(meta, "n_routed_experts") | {
        "n_shared_experts": meta.count("expert_shared_count"),
        "first_k_dense_replace": int(meta.value("leading_dense_block_count", 0, rule)),
        "routed_scaling_factor": float(meta.value("expert_weights_scale", 1.0, rule)),
        "norm_topk_prob": bool(meta.value("expert_weights_norm", False, rule)),
        "n_group": int(meta.optional("expert_group_count", 1)),
        "topk_group": int(meta.optional("expert_group_used_count", 1)),
        "num_nextn_predict_layers": 0,
    }  # fmt: skip


FAMILIES: dict[str, Callable[[Metadata], Values]] = {
    "llama": llama,
    "smollm3": smollm3,
    "granite": granite,
    "granite_swa": windowed_mistral,
    "qwen2": qwen2,
    "qwen3": qwen3,
    "qwen3moe": qwen3_moe,
    "qwen2moe": qwen2_moe,
    "qwen35": qwen3_5,
    "glm4moe": glm4_moe,
    "gemma": gemma1,
    "gemma2": gemma2,
    "gemma3": gemma3,
    "gemma4": gemma4,
    "phi3": phi3,
    "gpt-oss": gpt_oss,
    **DENSE,
    **EXPERTS,
    **STATES,
}


class UnknownArchitecture(ModelError):
    """A GGUF file of an architecture whose config is not known; what needs none of it works all the same."""


def settings_of(meta: Metadata) -> tuple[Values, Layout]:
    """config.json of the model in a file, and the layout that gives the file's keys of it again.

    Raises UnknownArchitecture, or ModelError of a file that no config of its family describes.
    """
    if meta.architecture not in FAMILIES:
        raise UnknownArchitecture(
            f"is of the architecture {meta.architecture!r}, whose config is not known: there is no reference for it. llama.cpp "
            "against llama.cpp, `self` and its own tokenizer work",
            where=str(meta.file.path),
            remedy=f"name the Hugging Face folder as `original`; known: {', '.join(sorted(FAMILIES))}",
        )
    try:
        config = FAMILIES[meta.architecture](meta)
    except (ArithmeticError, AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        text = f"has settings that no {meta.architecture} model has: {cause_of(error)}"
        raise ModelError(text, where=str(meta.file.path), remedy=AGAIN) from None
    try:
        layout = layout_of(config, str(meta.file.path))
    except ContractError as error:
        raise ModelError(f"cannot be described by a config: {error.text}", where=str(meta.file.path), remedy=AGAIN) from None
    for key, value in layout.keys.items():
        if key in meta.keys and not same(value, meta.need(key)):
            raise meta.refusal(key, f"is {meta.need(key)!s:.60}, and the config made of the file gives {value!s:.60}")
    return config, layout


def same(left: Any, right: Any) -> bool:
    """Equal as a float32 holds them; one number stands for a list of the same."""
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(same(*pair) for pair in zip(left, right, strict=True))
    if isinstance(left, list) or isinstance(right, list):
        many, single = (left, right) if isinstance(left, list) else (right, left)
        return all(same(item, single) for item in many)
    if isinstance(left, int | float) and isinstance(right, int | float):
        return bool(np.float32(left) == np.float32(right))
    return bool(left == right)
