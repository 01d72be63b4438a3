"""Finds the parts of a transformers model that mutations act on, in a loaded one or in a config's skeleton."""

from __future__ import annotations

import copy
import functools
import importlib
import json
from types import ModuleType
from typing import Any

import torch
import transformers
from torch import nn

NAME = "apply_rotary_pos_emb"


SOFTMAX_ROUTERS = ("qwen2_moe", "qwen3_moe", "qwen3_next", "qwen3_5_moe_text", "olmoe", "mixtral")
SIGMOID_ROUTERS = ("deepseek_v3", "glm4_moe")
ALWAYS_NORMALIZED = ("mixtral", "qwen3_5_moe_text")
GATED_DELTA_NETS = ("qwen3_5_text", "qwen3_5_moe_text")
FINAL_NORMS = ("norm", "norm_f", "final_layernorm", "embedding_norm")
ALIASES = {
    "before_attention": ("attention_layernorm", "operator_norm"),
    "before_mlp": ("feedforward_layernorm", "ffn_norm", "pre_ff_layernorm"),
}
"""Other names of the norms of a layer."""


def skeleton(config: Any) -> Any:
    """The model of `config` without weights: the modules, names and shapes that a loaded one would have."""
    kind = type(config)
    return _skeleton(kind.__module__, kind.__qualname__, json.dumps(config.to_dict(), sort_keys=True, default=str))


def of_any_layer(config: Any) -> Any:
    """The config, of which settings that differ by layer may be read: those that stand beside, not by layer."""
    if getattr(config, "per_layer_config", None) is not None:
        config.allow_global_per_layer_attribute_access = True
    return config


def layers(model: Any) -> list[Any]:
    """The decoder layers, in order."""
    return list(decoder(model).layers)


def decoder(model: Any) -> Any:
    """What holds the layers: some families call the whole model their decoder."""
    inner = model.get_decoder()
    return inner if hasattr(inner, "layers") else inner.model


def final_norm(model: Any) -> Any:
    """The norm before the head, under any of its names, or None."""
    own = dict(decoder(model).named_children())
    return next((own[name] for name in FINAL_NORMS if name in own), None)


def linears(model: Any) -> list[tuple[str, nn.Linear]]:
    """Every linear module of the decoder layers with its name."""
    named_linears = [
        (name, module) for name, module in model.named_modules() if isinstance(module, nn.Linear) and ".layers." in f".{name}"
    ]
    # some routers are linear modules that give more than a matrix product
    return [(name, module) for name, module in named_linears if type(module).forward is nn.Linear.forward]


def projections(model: Any, leaf: str) -> list[nn.Linear]:
    """The linear modules called `leaf` (`q_proj`), one for each layer that has it."""
    return [linear for name, linear in linears(model) if name.rpartition(".")[2] == leaf]


def parameters(model: Any, suffix: str, layer: int | None = None) -> list[tuple[str, nn.Parameter]]:
    """Parameters whose name ends in `.suffix`, of one layer or of all the model, tied ones once."""
    part = "" if layer is None else f".layers.{layer}."
    return [
        (name, parameter)
        for name, parameter in model.named_parameters()
        if f".{name}".endswith(f".{suffix}") and part in f".{name}"
    ]


def attentions(model: Any) -> list[Any]:
    """The attention modules, without linear attention."""
    return [
        module for module in model.modules() if isinstance(_child(module, "o_proj"), nn.Linear) and hasattr(module, "layer_idx")
    ]


def gated_mlps(model: Any) -> list[Any]:
    """Dense MLPs and fused experts of the form down(act(gate) * up)."""
    gated = [
        module
        for module in model.modules()
        if activation_name(module) and hasattr(module, "down_proj") and not _reads_weighted(module)
    ]
    return [
        module
        for module in gated
        if hasattr(module, "gate_up_proj") or (hasattr(module, "gate_proj") and hasattr(module, "up_proj"))
    ]


def _reads_weighted(module: Any) -> bool:
    """Experts that are given every token's weighted input, and neither numbers nor weights."""
    return type(module).__name__ == "Llama4TextExperts"


def feed_forward(layer: Any) -> Any:
    """The feed-forward block of a layer, under any of its names, or None."""
    return next((child for name in ("mlp", "feed_forward") if (child := _child(layer, name)) is not None), None)


def activation_name(module: Any) -> str:
    """The attribute of an MLP that holds its activation function, or nothing."""
    return next((name for name in ("act_fn", "activation_fn") if isinstance(_child(module, name), nn.Module)), "")


def experts(model: Any) -> list[Any]:
    """Modules that hold the weights of all experts of a layer as tensors of three dimensions."""
    modules = [module for module in model.modules() if not _reads_weighted(module)]
    return [module for module in modules if getattr(_parameter(module, "gate_up_proj"), "ndim", 0) == 3]


def routers(model: Any) -> list[Any]:
    """Modules that return (logits, weights, indices) of the chosen experts."""
    return [module for module in model.modules() if type(module).__name__.lower().endswith("topkrouter")]


def delta_nets(model: Any) -> list[Any]:
    """Gated delta-net layers."""
    return [module for module in model.modules() if type(module).__name__.endswith("GatedDeltaNet")]


def scans(model: Any) -> list[Any]:
    """Mamba-2 layers: what has a decay, a skip and a convolution of its own."""
    return [
        module
        for module in model.modules()
        if all(_parameter(module, name) is not None for name in ("A_log", "D")) and _child(module, "conv1d") is not None
    ]


def short_convolutions(model: Any) -> list[Any]:
    """Gated short convolutions."""
    return [module for module in model.modules() if type(module).__name__.endswith("ShortConv")]


def latent_attentions(model: Any) -> list[Any]:
    """Attention layers whose keys and values come from one latent."""
    return [module for module in model.modules() if isinstance(_child(module, "kv_a_proj_with_mqa"), nn.Linear)]


def is_tied(model: Any) -> bool:
    """Whether the head and the embedding are one tensor."""
    return model.get_output_embeddings().weight is model.get_input_embeddings().weight


def normalizes_top_k(config: Any) -> bool:
    """Whether a softmax or sigmoid router divides the weights of the chosen experts by their sum."""
    return config.model_type in ALWAYS_NORMALIZED or bool(getattr(config, "norm_topk_prob", False))


def _child(module: Any, name: str) -> Any:
    """The submodule of that name, or None."""
    child = getattr(module, name, None)
    return child if isinstance(child, nn.Module) else None


def _parameter(module: Any, name: str) -> Any:
    """The module's own parameter of that name, or None."""
    parameter = getattr(module, name, None)
    return parameter if isinstance(parameter, nn.Parameter) else None


@functools.lru_cache(maxsize=32)
def _skeleton(module: str, name: str, settings: str) -> Any:
    kind = getattr(importlib.import_module(module), name)
    state = torch.get_rng_state()
    try:
        with torch.device("meta"):
            config = of_any_layer(copy.deepcopy(kind.from_dict(json.loads(settings))))
            return transformers.AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    finally:
        torch.set_rng_state(state)


def function_names(config: Any) -> tuple[str, ...]:
    """The function by which attention layers of `config` rotate, nothing where they do not."""
    module = modeling_module(config)
    name = f"{NAME}_interleave" if getattr(config, "rope_interleave", False) else NAME
    return (name,) if hasattr(module, name) and getattr(config, "rope_parameters", None) else ()


def modeling_module(config: Any) -> ModuleType | None:
    """The module of transformers with the code of models of `config`, or None of what has none."""
    name = type(config).__module__.replace(".configuration_", ".modeling_")
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def roles(layer: Any) -> dict[str, Any]:
    """The RMS norms of a decoder layer: `before_attention`, `after_attention`, `before_mlp`, `after_mlp`.

    `post_attention_layernorm` stands before the MLP in Llama's layers, after attention in those of Gemma and OLMo.
    """
    own = dict(layer.named_children())
    plain = "input_layernorm" in own and "pre_feedforward_layernorm" not in own
    names = {
        "before_attention": "input_layernorm",
        "after_attention": "post_self_attn_layernorm" if plain else "post_attention_layernorm",
        "before_mlp": "post_attention_layernorm" if plain else "pre_feedforward_layernorm",
        "after_mlp": "post_mlp_layernorm" if plain else "post_feedforward_layernorm",
    }
    norms = {role: own[name] for role, name in names.items() if name in own}
    for role, aliases in ALIASES.items():
        known = [own[name] for name in aliases if name in own]
        if known and role not in norms:
            norms[role] = known[0]
    return {role: norm for role, norm in norms.items() if is_rms(norm)}


def is_rms(module: Any) -> bool:
    """Whether the module is an RMS norm with a weight."""
    return type(module).__name__.endswith("RMSNorm") and isinstance(getattr(module, "weight", None), torch.nn.Parameter)
