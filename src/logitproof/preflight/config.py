"""The settings of the architecture, across config.json and GGUF metadata."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import numpy as np

from logitproof.errors import ContractError, ModelError
from logitproof.files.untrusted import read_object
from logitproof.gguf.folder import RECORD, folder_of
from logitproof.gguf.layout import Layout
from logitproof.gguf.side import Side
from logitproof.preflight import Check, Finding, Setting, Setup, short
from logitproof.weights.config import LIMITS

MISSING = "not there"
UNKNOWN = "unknown architecture"
KNOWN: dict[str, tuple[str, str, str]] = {
    "rope.freq_base": ("PF201", "rope base", "rope_parameters.rope_theta"),
    "rope.scaling.type": ("PF202", "rope scaling", "rope_parameters.rope_type"),
    "rope.scaling.factor": ("PF202", "rope scaling factor", "rope_parameters.factor"),
    "rope.scaling.original_context_length": (
        "PF202",
        "rope scaling: original context",
        "rope_parameters.original_max_position_embeddings",
    ),
    "rope.scaling.attn_factor": ("PF202", "rope scaling: attention factor", "rope_parameters.attention_factor"),
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
    "vocab_size": ("PF214", "vocabulary size", "vocab_size"),
}
"""GGUF key: code, name, field of config.json."""
NEUTRAL: dict[str, Any] = {
    "rope.freq_base": 10000.0,
    "rope.scaling.type": "none",
    "rope.scaling.factor": 1.0,
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
}
"""What a setting is where nobody names it."""
WINDOW = "attention.sliding_window_pattern"
LOADERS: dict[str, dict[str, Any]] = {
    "gemma2": {"attention.sliding_window": 4096, "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0, WINDOW: 2},
    "gemma3": {"rope.freq_base_swa": 10000.0, WINDOW: 6},
    "gpt-oss": {WINDOW: 2},
}
"""What llama.cpp's loader of an architecture takes where a GGUF file is silent; of windows, which layer of so many has none."""
REMEDY = "convert the model again from this config.json, or take the config.json that belongs to these weights"


class Config(Check):
    """Rope, norms, heads, widths, window, softcaps, experts and scales, as config.json and the GGUF file have them."""

    codes: ClassVar[Mapping[str, str]] = {
        "PF200": "another architecture, or a config that lacks a field or has one that GGUF cannot express",
        "PF201": "rope base",
        "PF202": "rope scaling",
        "PF203": "rotary dimensions",
        "PF204": "norm epsilon",
        "PF205": "number of heads",
        "PF206": "head size",
        "PF207": "layers and widths",
        "PF209": "sliding window",
        "PF210": "softcap",
        "PF211": "mixture of experts",
        "PF212": "context length",
        "PF213": "scale of logits, embeddings, residuals or attention",
        "PF214": "vocabulary size",
        "PF215": "another setting of this architecture",
    }

    def examine(self, setup: Setup) -> Iterator[Setting | Finding]:
        reference, candidate = setup.original, setup.file
        if "other" in (reference.format, candidate.format):
            yield Setting(
                "config", reference.format, candidate.format, "not compared", "only its own engine can read such a file"
            )
            return
        yield from _undescribed(setup)
        if reference.path == candidate.path:
            yield Setting("config", reference.settings_file, candidate.settings_file, "same", "one file")
            yield from _assumptions(reference)
            return
        laid_out = reference.format == "safetensors" and isinstance(reference.layout, Layout)
        if laid_out or reference.format == candidate.format:
            yield from _row(
                "PF200", "architecture", (reference.architecture, candidate.architecture), setup, "general.architecture"
            )
        known = [key for key in KNOWN if key in reference.keys or key in candidate.keys]
        for key in [*known, *sorted((reference.keys.keys() | candidate.keys.keys()) - KNOWN.keys())]:
            yield from _compare(key, setup)


def _assumptions(side: Side) -> Iterator[Setting]:
    """What is assumed of a GGUF file that is all there is of a model."""
    if side.format != "gguf":
        return
    try:
        record = read_object(folder_of(side.path) / RECORD, kind=ModelError)
    except ModelError as error:
        yield Setting("reference of the file", side.architecture, side.architecture, "not compared", error.text)
        return
    for entry in record["assumed"]:
        value = short(entry["value"])
        yield Setting(entry["key"], value, value, "listed", f"assumed: {entry['rule']}")
    for key in record["unread"]:
        value = short(side.keys.get(key))
        yield Setting(key, value, value, "not compared", "a key that the reference makes nothing of")


def _undescribed(setup: Setup) -> Iterator[Finding | Setting]:
    """Why a folder has no layout: its family is not known, it lacks a field, or GGUF has no word for a setting."""
    reference, candidate = setup.original, setup.file
    if reference.format != "safetensors" or isinstance(reference.layout, Layout):
        return
    error: ContractError = reference.layout
    if error.text.startswith(UNKNOWN) or (candidate.format != "gguf" and not isinstance(error, ModelError)):
        yield Setting("config", error.text, "–", "not compared", "the layouts of known families are")
    else:
        yield Finding("PF200", "config", error.text, "–", reference.settings_file, "", error.remedy)


def _compare(key: str, setup: Setup) -> Iterator[Setting | Finding]:
    code, name, field = KNOWN.get(key, ("PF215", key, key))
    reference, candidate = (_value(key, side) for side in (setup.original, setup.file))
    assumed = [side.path.name for side in (setup.original, setup.file) if _is_assumed(key, side)]
    if MISSING in (reference, candidate) and not _is_demanded(key, setup):
        yield Setting(name, short(reference), short(candidate), "not compared", "one side does not say")
        return
    where = setup.file.field_of(key) if setup.file.format == "gguf" else field
    note = f"assumed for {', '.join(assumed)}, as llama.cpp's loader has it" if assumed else ""
    yield from _row(code, name, (reference, candidate), setup, where, note)


def _row(
    code: str, name: str, values: tuple[Any, Any], setup: Setup, field: str, note: str = ""
) -> Iterator[Setting | Finding]:
    reference, candidate = values
    same = _equal(reference, candidate)
    yield Setting(name, short(reference), short(candidate), "same" if same else "differs", note)
    if not same:
        yield Finding(code, name, short(reference), short(candidate), setup.file.settings_file, field, REMEDY)


def _is_demanded(key: str, setup: Setup) -> bool:
    """What the layout of a known family writes must be there; other keys may be one converter's own."""
    layout = setup.original.layout if setup.original.format == "safetensors" else None
    return isinstance(layout, Layout) and key in layout.keys


def _is_assumed(key: str, side: Side) -> bool:
    return side.format == "gguf" and key not in side.keys and key in LOADERS.get(side.architecture, {})


def _loaders(key: str, side: Side) -> Any:
    """What the loader takes for a key that the file has not."""
    value = LOADERS[side.architecture][key]
    layers = side.keys.get("block_count")
    if key != WINDOW or not isinstance(layers, int) or layers > LIMITS["num_hidden_layers"]:
        return value
    return [number % value < value - 1 for number in range(layers)]


def _value(key: str, side: Side) -> Any:
    """The setting, or what an engine takes where it is not named."""
    keys = side.keys
    if key in keys:
        # llama.cpp reads a type `none`, and a linear scaling by 1 or by nothing, as no scaling.
        if key == "rope.scaling.type" and keys[key] == "linear" and keys.get("rope.scaling.factor", 0) in (0, 1):
            return "none"
        return keys[key]
    if _is_assumed(key, side):
        return _loaders(key, side)
    if key == "attention.head_count_kv":
        return keys.get("attention.head_count", MISSING)
    if key in ("attention.key_length", "attention.value_length"):
        return _head_size(keys)
    if key == "rope.dimension_count":
        return keys.get("attention.key_length", _head_size(keys))
    if key == "attention.scale":
        return _scale(keys)
    if key == "vocab_size" and not isinstance(side.tokenizer, ContractError):
        return len(side.tokenizer.get("tokenizer.ggml.tokens", [])) or MISSING
    return NEUTRAL.get(key, MISSING)


def _head_size(keys: Mapping[str, Any]) -> Any:
    width, heads = keys.get("embedding_length"), keys.get("attention.head_count")
    return width // heads if isinstance(width, int) and isinstance(heads, int) and heads else MISSING


def _scale(keys: Mapping[str, Any]) -> Any:
    size = keys.get("attention.key_length", _head_size(keys))
    return float(size) ** -0.5 if isinstance(size, int) else MISSING


def _equal(reference: Any, candidate: Any) -> bool:
    """Equal as a float32 file can hold them; one number stands for a list of the same."""
    if isinstance(reference, list) != isinstance(candidate, list):
        entries, number = (reference, candidate) if isinstance(reference, list) else (candidate, reference)
        return all(_equal(entry, number) for entry in entries)
    if isinstance(reference, int | float) and isinstance(candidate, int | float):
        return bool(np.float32(reference) == np.float32(candidate))
    return bool(reference == candidate)
