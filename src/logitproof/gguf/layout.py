"""The pieces that GGUF layouts of model families are made of: config, planned tensors, common keys and names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from logitproof.errors import ContractError, ModelError
from logitproof.weights.checkpoint import Array

Change = Callable[[list[Array]], Array]


class Noted(dict[str, Any]):
    """A config.json that keeps the names of the fields that were looked at in `read`."""

    def __init__(self, values: Mapping[str, Any], read: set[str] | None = None) -> None:
        super().__init__(values)
        self.read: set[str] = set() if read is None else read

    def __getitem__(self, name: str) -> Any:
        self.read.add(name)
        return super().__getitem__(name)

    def __contains__(self, name: object) -> bool:
        self.read.add(str(name))
        return super().__contains__(name)

    def get(self, name: str, default: Any = None) -> Any:
        self.read.add(name)
        return super().get(name, default)

    def __or__(self, more: Mapping[str, Any]) -> Noted:  # type: ignore[override]
        return Noted({**self, **more}, self.read)

    def __ror__(self, more: Mapping[str, Any]) -> Noted:  # type: ignore[override]
        return Noted({**more, **self}, self.read)

    @property
    def left(self) -> dict[str, Any]:
        """The fields that nobody looked at."""
        return {name: value for name, value in self.items() if name not in self.read}


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

    def without_effect(self, *names: str) -> None:
        """Note fields as looked at that change nothing in this config."""
        for name in names:
            self.values.get(name)

    @property
    def rope(self) -> dict[str, Any]:
        """Rope parameters, in the form of transformers 5; older configs keep the base and scaling apart."""
        scaling = self.values.get("rope_parameters") or self.values.get("rope_scaling") or {}
        return {"rope_theta": self.values.get("rope_theta", 10000.0), **scaling}

    @property
    def head_size(self) -> int:
        """Size D of an attention head."""
        return int(self.values.get("head_dim") or self.need("hidden_size") // self.need("num_attention_heads"))


@dataclass(frozen=True)
class Planned:
    """One GGUF tensor: made by `change` from the checkpoint tensors named in `sources`."""

    name: str
    sources: tuple[str, ...]
    change: Change = field(default=lambda arrays: arrays[0])


WHOLE_KEYS = ("xielu.",)
"""Beginnings of keys that stand beside the architecture's name and not below it."""


@dataclass(frozen=True)
class Layout:
    """All of a model: architecture name in GGUF, keys below `{name}.`, tensors, and prefixes left out on purpose.

    `measured` are whole keys whose values are checkpoint tensors of one number each, such as a learned slope of every layer.
    """

    name: str
    keys: dict[str, Any]
    tensors: list[Planned]
    left_out: tuple[str, ...] = ()
    measured: dict[str, list[str]] = field(default_factory=dict)


YARN = {
    "rope_type", "type", "rope_theta", "factor", "original_max_position_embeddings", "beta_fast", "beta_slow", "truncate",
}  # fmt: skip
"""What llama.cpp can be told of YaRN; it always truncates the range of dimensions to whole numbers."""


def common_keys(config: Config, activation: str = "silu") -> dict[str, Any]:
    """Keys that every decoder has; GGUF cannot name the activation, so it must be the family's own."""
    if config.need("hidden_act") != activation:
        raise config.refuse(f"activation {config.need('hidden_act')!r} instead of {activation!r}")
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
    if kind == "yarn" and set(rope) <= YARN and rope.get("truncate", True):
        keys |= {"rope.scaling.original_context_length": int(rope["original_max_position_embeddings"])}
        return keys | {f"rope.scaling.yarn_{name}": float(rope[name]) for name in ("beta_fast", "beta_slow") if rope.get(name)}
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
