"""What a GGUF file of each model family holds: its keys, and its tensors as functions of checkpoint tensors.

To add a family, write a function that gives its `Layout` and enter it in `ARCHITECTURES` under the name that
config.json has in `architectures`. A layout names every tensor, so the caller can tell what is missing and
what is left over. Facts are llama.cpp's (its converter and `src/models/`); shapes are those of PyTorch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from logitproof.errors import ContractError, ModelError

Array = np.ndarray
Change = Callable[[list[Array]], Array]


@dataclass(frozen=True)
class Config:
    """config.json with errors that say what is missing."""

    values: dict[str, Any]
    where: str

    def need(self, name: str) -> Any:
        """The value of `name`, which must be there."""
        if self.values.get(name) is None:
            raise ModelError(f"{name!r} is missing", where=self.where, remedy="save the config with transformers 4.50+")
        return self.values[name]

    def refuse(self, reason: str) -> ContractError:
        """The error for a setting that llama.cpp would silently compute differently."""
        return ContractError(reason, where=self.where, remedy="llama.cpp has no such setting for this family")

    @property
    def rope(self) -> dict[str, Any]:
        """Rope parameters, in the form of transformers 5; older configs keep the base and scaling apart."""
        older = {"rope_theta": self.values.get("rope_theta", 10000.0), **(self.values.get("rope_scaling") or {})}
        return self.values.get("rope_parameters") or older

    @property
    def head_size(self) -> int:
        """Size D of an attention head."""
        return self.values.get("head_dim") or self.need("hidden_size") // self.need("num_attention_heads")


@dataclass(frozen=True)
class Planned:
    """One GGUF tensor: made by `change` from the checkpoint tensors named in `sources`."""

    name: str
    sources: tuple[str, ...]
    change: Change = field(default=lambda arrays: arrays[0])


@dataclass(frozen=True)
class Layout:
    """All of a model: architecture name in GGUF, keys below `{name}.`, tensors, and prefixes left out on purpose."""

    name: str
    keys: dict[str, Any]
    tensors: list[Planned]
    left_out: tuple[str, ...] = ()


def layout_of(values: dict[str, Any], where: str) -> Layout:
    """The layout for a config.json; ContractError for a family that is not in the table."""
    named = (values.get("architectures") or ["nothing"])[0]
    if named not in ARCHITECTURES:
        raise ContractError(
            f"unknown architecture {named!r}", where=where, remedy=f"known: {', '.join(sorted(ARCHITECTURES))}"
        )
    config = Config(values, where)
    if config.need("hidden_act") != "silu":
        raise config.refuse(f"activation {values['hidden_act']!r} instead of 'silu'")
    return ARCHITECTURES[named](config)


def common_keys(config: Config) -> dict[str, Any]:
    """Keys that every decoder has."""
    keys = {
        "block_count": config.need("num_hidden_layers"),
        "context_length": config.need("max_position_embeddings"),
        "embedding_length": config.need("hidden_size"),
        "feed_forward_length": config.need("intermediate_size"),
        "attention.head_count": config.need("num_attention_heads"),
        "attention.head_count_kv": config.need("num_key_value_heads"),
        "attention.layer_norm_rms_epsilon": float(config.need("rms_norm_eps")),
        "rope.freq_base": float(config.rope["rope_theta"]),
    }
    if config.values.get("head_dim"):
        keys |= {"attention.key_length": config.head_size, "attention.value_length": config.head_size}
    return keys | _rope_scaling(config)


def _rope_scaling(config: Config) -> dict[str, Any]:
    """Scaling that llama.cpp computes itself; llama3's is a tensor instead."""
    rope = config.rope
    kind = rope.get("rope_type") or rope.get("type") or "default"
    if kind in ("default", "llama3"):
        return {}
    keys = {"rope.scaling.type": kind, "rope.scaling.factor": float(rope.get("factor", 1.0))}
    if kind == "linear":
        return keys
    if kind == "yarn" and set(rope) <= {"rope_type", "type", "rope_theta", "factor", "original_max_position_embeddings"}:
        return keys | {"rope.scaling.original_context_length": int(rope["original_max_position_embeddings"])}
    raise config.refuse(f"rope scaling {rope}")


def frame(config: Config) -> list[Planned]:
    """Embedding, last norm and, where it is not the embedding, the output matrix."""
    tensors = [
        Planned("token_embd.weight", ("model.embed_tokens.weight",)),
        Planned("output_norm.weight", ("model.norm.weight",)),
    ]
    if not config.values.get("tie_word_embeddings"):
        tensors.append(Planned("output.weight", ("lm_head.weight",)))
    return tensors


NORMS = {"attn_norm.weight": "input_layernorm.weight", "ffn_norm.weight": "post_attention_layernorm.weight"}
ATTENTION = {
    "attn_q.weight": "self_attn.q_proj.weight",
    "attn_k.weight": "self_attn.k_proj.weight",
    "attn_v.weight": "self_attn.v_proj.weight",
    "attn_output.weight": "self_attn.o_proj.weight",
}
QKV_BIASES = {f"attn_{letter}.bias": f"self_attn.{letter}_proj.bias" for letter in "qkv"}
QK_NORMS = {f"attn_{letter}_norm.weight": f"self_attn.{letter}_norm.weight" for letter in "qk"}
FEED_FORWARD = {f"ffn_{part}.weight": f"mlp.{part}_proj.weight" for part in ("gate", "up", "down")}


def layer(number: int, names: dict[str, str], changes: dict[str, Change] | None = None) -> list[Planned]:
    """The tensors of one layer: GGUF name to checkpoint name, both without the layer's prefix."""
    made = []
    for name, source in names.items():
        planned = Planned(f"blk.{number}.{name}", (f"model.layers.{number}.{source}",))
        if changes and name in changes:
            planned = Planned(planned.name, planned.sources, changes[name])
        made.append(planned)
    return made


def llama(config: Config) -> Layout:
    """Llama 2 and 3: rotary pairs are neighbours in GGUF, halves in the checkpoint."""
    heads, kv_heads, size = config.need("num_attention_heads"), config.need("num_key_value_heads"), config.head_size
    names = NORMS | ATTENTION | FEED_FORWARD
    if config.values.get("attention_bias"):
        names = names | QKV_BIASES | {"attn_output.bias": "self_attn.o_proj.bias"}
    pairs = {f"attn_q.{kind}": _neighbours(heads) for kind in ("weight", "bias")}
    pairs |= {f"attn_k.{kind}": _neighbours(kv_heads) for kind in ("weight", "bias")}
    tensors = frame(config)
    for number in range(config.need("num_hidden_layers")):
        tensors += layer(number, names, pairs)
    if config.rope.get("rope_type", config.rope.get("type")) == "llama3":
        factors = llama3_rope_factors(config.rope, size)
        tensors.insert(0, Planned("rope_freqs.weight", (), lambda arrays: factors))
    keys = {"vocab_size": config.need("vocab_size"), "rope.dimension_count": size}
    # transformers fills head_dim in for Llama, so the converter writes the lengths always
    keys |= {"attention.key_length": size, "attention.value_length": size}
    return Layout("llama", common_keys(config) | keys, tensors)


def _neighbours(heads: int) -> Change:
    """Row 2i of a head takes the old row i, row 2i + 1 the old row D/2 + i."""

    def change(arrays: list[Array]) -> Array:
        whole = arrays[0]
        halves = whole.reshape(heads, 2, whole.shape[0] // heads // 2, *whole.shape[1:])
        return halves.swapaxes(1, 2).reshape(whole.shape)

    return change


def llama3_rope_factors(rope: dict[str, Any], size: int) -> Array:
    """Divisors of the D/2 rotary frequencies, shape (D/2,).

    In float32 and in PyTorch's order, so that they are equal to the bit to what transformers computes with.
    """
    exponents = np.arange(0, size, 2, dtype=np.float32) / np.float32(size)
    frequencies = np.float32(1) / np.power(np.float32(rope["rope_theta"]), exponents)
    low, high, factor = rope["low_freq_factor"], rope["high_freq_factor"], rope["factor"]
    context = rope["original_max_position_embeddings"]
    divisors = []
    for wavelength in np.float32(2 * math.pi) / frequencies:
        smooth = (np.float32(context) / wavelength - np.float32(low)) / np.float32(high - low)
        between = 1 / ((1 - smooth) / np.float32(factor) + smooth)
        short, long = wavelength < context / high, wavelength > context / low
        divisors.append(1.0 if short else factor if long else between)
    return np.array(divisors, dtype=np.float32)


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
    experts = config.need("num_experts")
    plain = _plain("qwen3moe", config, NORMS | ATTENTION | QK_NORMS | {"ffn_gate_inp.weight": "mlp.gate.weight"})
    for number in range(config.need("num_hidden_layers")):
        for part in ("gate", "up", "down"):
            each = tuple(f"model.layers.{number}.mlp.experts.{at}.{part}_proj.weight" for at in range(experts))
            plain.tensors.append(Planned(f"blk.{number}.ffn_{part}_exps.weight", each, np.stack))
    keys = {
        "expert_count": experts,
        "expert_used_count": config.need("num_experts_per_tok"),
        "expert_feed_forward_length": config.need("moe_intermediate_size"),
    }
    return Layout("qwen3moe", plain.keys | keys, plain.tensors)


from logitproof.gguf_delta_net import qwen3_5  # noqa: E402  (it needs the names above)

ARCHITECTURES: dict[str, Callable[[Config], Layout]] = {
    "LlamaForCausalLM": llama,
    "Qwen2ForCausalLM": qwen2,
    "Qwen3ForCausalLM": qwen3,
    "Qwen3MoeForCausalLM": qwen3_moe,
    "Qwen3_5ForCausalLM": qwen3_5,
}
