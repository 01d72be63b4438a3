"""Settings of an architecture by their GGUF keys: what each is called, what it is where no file says it, and who knows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from logitproof.errors import ContractError
from logitproof.gguf.layout import YARN, Layout
from logitproof.gguf.rotary import LLAMA3_SCALING
from logitproof.gguf.side import ALSO_IN_CONFIG, Side
from logitproof.preflight._families import OF_FAMILIES
from logitproof.weights.config import LIMITS

MISSING = "not there"
KNOWN: dict[str, tuple[str, str, str]] = {
    "rope.freq_base": ("PF201", "rope base", "rope_parameters.rope_theta"),
    "rope.freq_base_swa": ("PF215", "rope.freq_base_swa", "rope_parameters.sliding_attention"),
    "rope.scaling.type": ("PF202", "rope scaling", "rope_parameters.rope_type"),
    "rope.scaling.factor": ("PF202", "rope scaling factor", "rope_parameters.factor"),
    "rope.scale_linear": ("PF202", "rope scaling factor", "rope_parameters.factor"),
    "rope.scaling.original_context_length": (
        "PF202",
        "rope scaling: original context",
        "rope_parameters.original_max_position_embeddings",
    ),
    "rope.scaling.attn_factor": ("PF202", "rope scaling: attention factor", "rope_parameters.attention_factor"),
    "rope.scaling.yarn_attn_factor": ("PF202", "rope scaling: YaRN's attention factor", "rope_parameters.attention_factor"),
    "rope.scaling.yarn_ext_factor": ("PF202", "rope scaling: YaRN's extrapolation", "rope_parameters.rope_type"),
    "rope.scaling.yarn_log_multiplier": ("PF202", "rope scaling: YaRN's mscale", "rope_parameters.mscale_all_dim"),
    "rope.scaling.yarn_beta_fast": ("PF202", "rope scaling: fast dimensions", "rope_parameters.beta_fast"),
    "rope.scaling.yarn_beta_slow": ("PF202", "rope scaling: slow dimensions", "rope_parameters.beta_slow"),
    "rope.scaling.alpha": ("PF202", "rope scaling: alpha", "rope_parameters.alpha"),
    "rope.dimension_count": ("PF203", "rotary dimensions", "rope_parameters.partial_rotary_factor"),
    "rope.dimension_sections": ("PF203", "rotary sections", "rope_parameters.mrope_section"),
    "attention.layer_norm_rms_epsilon": ("PF204", "norm epsilon", "rms_norm_eps"),
    "attention.layer_norm_epsilon": ("PF204", "norm epsilon", "layer_norm_eps"),
    "attention.head_count": ("PF205", "attention heads", "num_attention_heads"),
    "attention.head_count_kv": ("PF205", "key and value heads", "num_key_value_heads"),
    "attention.key_length": ("PF206", "head size of keys", "head_dim"),
    "attention.value_length": ("PF206", "head size of values", "head_dim"),
    "block_count": ("PF207", "layers", "num_hidden_layers"),
    "embedding_length": ("PF207", "embedding width", "hidden_size"),
    "feed_forward_length": ("PF207", "feed-forward width", "intermediate_size"),
    "attention.sliding_window": ("PF209", "sliding window", "sliding_window"),
    "attention.sliding_window_pattern": ("PF209", "sliding window: which layers", "layer_types"),
    "attn_logit_softcapping": ("PF210", "softcap of attention scores", "attn_logit_softcapping"),
    "router_logit_softcapping": ("PF210", "softcap of router scores", "router_logit_softcapping"),
    "final_logit_softcapping": ("PF210", "softcap of logits", "final_logit_softcapping"),
    "expert_count": ("PF211", "experts", "num_experts"),
    "expert_used_count": ("PF211", "experts used a token", "num_experts_per_tok"),
    "expert_feed_forward_length": ("PF211", "width of an expert", "moe_intermediate_size"),
    "expert_shared_count": ("PF211", "shared experts", "n_shared_experts"),
    "expert_weights_scale": ("PF211", "scale of expert weights", "routed_scaling_factor"),
    "expert_weights_norm": ("PF211", "expert weights normalised", "norm_topk_prob"),
    "expert_gating_func": ("PF211", "gating function", "scoring_func"),
    "context_length": ("PF212", "context length", "max_position_embeddings"),
    "logit_scale": ("PF213", "scale of logits", "logits_scaling"),
    "embedding_scale": ("PF213", "scale of embeddings", "embedding_multiplier"),
    "residual_scale": ("PF213", "scale of residuals", "residual_multiplier"),
    "attention.scale": ("PF213", "scale of attention scores", "attention_multiplier"),
    "attention.output_scale": ("PF213", "scale of attention's output", "attention_out_multiplier"),
    "attention.value_scale": ("PF213", "scale of values", "attention_value_scale"),
    "attention.temperature_scale": ("PF213", "temperature of attention by position", "attn_scale"),
    "attention.clamp_kqv": ("PF215", "clamp of q, k and v", "clip_qkv"),
    "attention.max_alibi_bias": ("PF215", "ALiBi", "alibi"),
    "attention.causal": ("PF215", "causal mask", "is_causal"),
    "vocab_size": ("PF214", "vocabulary size", "vocab_size"),
    **OF_FAMILIES,
}
"""GGUF key: code, name, field of config.json."""
NEUTRAL: dict[str, Any] = {
    "rope.freq_base": 10000.0,
    "rope.scaling.type": "none",
    "rope.scaling.factor": 1.0,
    "rope.scale_linear": 1.0,
    "rope.scaling.attn_factor": 1.0,
    "rope.scaling.yarn_attn_factor": 1.0,
    "rope.scaling.yarn_log_multiplier": 0.0,
    "rope.scaling.yarn_beta_fast": 32.0,
    "rope.scaling.yarn_beta_slow": 1.0,
    "rope.scaling.alpha": 0.0,
    "attention.sliding_window": 0,
    "attn_logit_softcapping": 0.0,
    "final_logit_softcapping": 0.0,
    "expert_count": 0,
    "expert_used_count": 0,
    "expert_shared_count": 0,
    "expert_weights_scale": 1.0,
    "logit_scale": 1.0,
    "embedding_scale": 1.0,
    "residual_scale": 1.0,
    "attention.output_scale": 1.0,
    "attention.value_scale": 1.0,
    "attention.temperature_scale": 0.0,
    "attention.clamp_kqv": 0.0,
    "attention.max_alibi_bias": 0.0,
    "attention.causal": True,
}
"""What a setting is where nobody names it, as llama.cpp's loader has it (`llama-hparams.h`)."""
NO_SCALE = ("rope.scaling.factor", "rope.scale_linear", "logit_scale", "attention.output_scale", "attention.value_scale")
"""Factors of which llama.cpp reads a zero as none."""
WITHOUT_EFFECT = {"rope.scaling.finetuned", "nextn_predict_layers", "pooling_type", "tensor_data_layout"}
"""Keys that change no logit of a decoder."""
OF_FILES = {
    "architectures", "model_type", "vocab_size", "transformers_version", "torch_dtype", "dtype", "use_cache", "auto_map",
    "return_dict", "output_attentions", "output_hidden_states", "output_router_logits", "pretraining_tp", "id2label",
    "label2id", "torchscript", "problem_type", "max_window_layers", "quantization_config", "is_decoder", "task_specific_params",
    "chunk_size_feed_forward", "name_or_path", "head_dim", "num_key_value_heads", "max_position_embeddings", "rope_parameters",
    "rope_scaling", "rope_theta", "original_max_position_embeddings", "partial_rotary_factor", "num_logits_to_keep",
    "chunk_size", "mamba_chunk_size", "residual_in_fp32", "rescale_prenorm_residual", "time_step_floor", "time_step_max",
    "use_mamba_kernels", "qk_head_dim", "mtp_layers_block_type",
}  # fmt: skip
"""Fields of config.json that change no logit, or that other rows say."""
OF_TRAINING = (
    "_token_id",
    "dropout",
    "_pdrop",
    "initializer_range",
    "_aux_loss_coef",
    "_loss_weight",
    "jitter_noise",
    "use_cache",
)
"""Endings of fields that only training or generation reads."""
EVERY_ROPE = frozenset({"rope_theta", "rope_type", "type", "partial_rotary_factor", "mrope_section", "mrope_interleaved"})
ROPES: dict[str, frozenset[str]] = {
    "linear": frozenset({"factor"}),
    "dynamic": frozenset({"factor", "original_max_position_embeddings"}),
    "llama3": frozenset(LLAMA3_SCALING),
    "yarn": frozenset(YARN | {"attention_factor", "mscale", "mscale_all_dim"}),
    "longrope": frozenset({"factor", "short_factor", "long_factor", "original_max_position_embeddings", "attention_factor"}),
}
"""What transformers reads of the rotary parameters, by their type (`modeling_rope_utils.py`)."""
WINDOW = "attention.sliding_window_pattern"
LOADERS: dict[str, dict[str, Any]] = {
    "gemma2": {"attention.sliding_window": 4096, "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0, WINDOW: 2},
    "gemma3": {"rope.freq_base_swa": 10000.0, WINDOW: 6},
    "gemma4": {"rope.freq_base_swa": 10000.0, "final_logit_softcapping": 30.0},
    "gpt-oss": {WINDOW: 2},
    "cohere2": {WINDOW: 4},
}
"""What llama.cpp's loader of an architecture takes where a GGUF file is silent; of windows, which layer of so many has none."""


@dataclass(frozen=True)
class Value:
    """A setting of one side, and whether a file says it; what is not said is what an engine takes without it."""

    value: Any
    is_said: bool = True

    @property
    def is_missing(self) -> bool:
        return isinstance(self.value, str) and self.value == MISSING


def value_of(key: str, side: Side) -> Value:
    """The setting, or what an engine takes where it is not named."""
    keys = side.keys
    if key in keys:
        value = keys[key]
        # llama.cpp reads a type `none`, and a linear scaling by 1 or by nothing, as no scaling.
        if key == "rope.scaling.type" and value == "linear" and keys.get("rope.scaling.factor", 0) in (0, 1):
            value = "none"
        return Value(1.0 if key in NO_SCALE and value == 0 else value)
    return Value(_unsaid(key, side), is_said=False)


def is_assumed(key: str, side: Side) -> bool:
    """Whether the loader of the file's architecture has a value of its own for it."""
    return side.format == "gguf" and key not in side.keys and key in LOADERS.get(side.architecture, {})


def unknown_keys(side: Side, opposite: Side) -> list[str]:
    """Keys below a GGUF file's architecture that nothing here knows: neither this table nor the layout of the other side."""
    if side.format != "gguf":
        return []
    known = KNOWN.keys() | NEUTRAL.keys() | WITHOUT_EFFECT | LOADERS.get(side.architecture, {}).keys() | opposite.keys.keys()
    return sorted(key for key, value in side.keys.items() if key not in known and not is_nothing(value))


def unknown_fields(side: Side) -> dict[str, Any]:
    """Fields of a folder's config.json that its family's layout did not look at, in names that may change logits."""
    if side.format != "safetensors" or not isinstance(side.layout, Layout):
        return {}
    return {
        name: value
        for name, value in (side.unread | rope_left(side.config)).items()
        if name not in ALSO_IN_CONFIG and not _is_harmless(name, value)
    }


def rope_left(config: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of the rotary parameters that their own `rope_type` has no use for, by their path."""
    left: dict[str, Any] = {}
    for name in ("rope_parameters", "rope_scaling"):
        held = config.get(name)
        nested = {f"{name}.{kind}": value for kind, value in held.items()} if isinstance(held, dict) else {}
        if nested and all(isinstance(value, dict) for value in nested.values()):
            left |= {f"{path}.{field}": value for path, part in nested.items() for field, value in _rope_left(part).items()}
        elif isinstance(held, dict):
            left |= {f"{name}.{field}": value for field, value in _rope_left(held).items()}
    return left


def _rope_left(rope: Mapping[str, Any]) -> dict[str, Any]:
    kind = str(rope.get("rope_type") or rope.get("type") or "default")
    known = EVERY_ROPE | ROPES.get(kind, frozenset())
    return {name: value for name, value in rope.items() if name not in known and not is_nothing(value)}


def _is_harmless(name: str, value: Any) -> bool:
    if name in OF_FILES or name.endswith(OF_TRAINING) or name.startswith("_") or is_nothing(value):
        return True
    return name == "layer_types" and isinstance(value, list) and set(map(str, value)) == {"full_attention"}


def is_nothing(value: Any) -> bool:
    """Nothing, zero or no: what is written for a setting that a model has not."""
    return value is None or value is False or value in (0, 0.0, "", "none") or (isinstance(value, list) and not any(value))


def _unsaid(key: str, side: Side) -> Any:
    keys = side.keys
    if is_assumed(key, side):
        return _loaders(key, side)
    if key == "attention.head_count_kv":
        return keys.get("attention.head_count", MISSING)
    if key in ("attention.key_length", "attention.value_length"):
        return _head_size(keys)
    if key == "rope.dimension_count":
        return keys.get("attention.key_length", _head_size(keys))
    if key == "attention.scale":
        return _scale(keys)
    if key == "rope.scaling.factor" and "rope.scale_linear" in keys:
        return keys["rope.scale_linear"] or 1.0
    if key == "rope.scale_linear" and "rope.scaling.factor" in keys:
        return keys["rope.scaling.factor"] or 1.0
    if key == "rope.scaling.yarn_ext_factor":
        return 1.0 if keys.get("rope.scaling.type") == "yarn" else 0.0
    if key == "vocab_size" and not isinstance(side.tokenizer, ContractError):
        return len(side.tokenizer.get("tokenizer.ggml.tokens", [])) or MISSING
    return NEUTRAL.get(key, MISSING)


def _loaders(key: str, side: Side) -> Any:
    """What the loader takes for a key that the file has not."""
    value = LOADERS[side.architecture][key]
    layers = side.keys.get("block_count")
    if key != WINDOW or not isinstance(layers, int) or layers > LIMITS["num_hidden_layers"]:
        return value
    return [number % value < value - 1 for number in range(layers)]


def _head_size(keys: Mapping[str, Any]) -> Any:
    width, heads = keys.get("embedding_length"), keys.get("attention.head_count")
    return width // heads if isinstance(width, int) and isinstance(heads, int) and heads else MISSING


def _scale(keys: Mapping[str, Any]) -> Any:
    size = keys.get("attention.key_length", _head_size(keys))
    return float(size) ** -0.5 if isinstance(size, int) else MISSING
