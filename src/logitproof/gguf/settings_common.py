"""The pieces that configs of GGUF files are made of: what every decoder has, rope, experts, windows."""

from __future__ import annotations

from typing import Any

import numpy as np

from logitproof.errors import ModelError
from logitproof.gguf.metadata import AGAIN, Metadata
from logitproof.gguf.rotary import llama3_rope_factors

Values = dict[str, Any]
OWN_HEAD_SIZE = ("Qwen2ForCausalLM", "Qwen2MoeForCausalLM", "Phi3ForCausalLM")
"""Classes of transformers that take the width over the heads where nothing is said."""


def common(meta: Metadata, name: str, kind: str, eps: str = "attention.layer_norm_rms_epsilon", **more: Any) -> Values:
    """What every decoder has; `name` is the class of transformers, `kind` its model_type, `eps` the key of the norms' epsilon.

    `more` is what a family has otherwise, such as the heads of K and V where not every layer has the same.
    """
    heads, width = meta.count("attention.head_count"), meta.count("embedding_length")
    layers = meta.count("block_count") - int(meta.optional("nextn_predict_layers", 0))
    config: Values = {
        "architectures": [name],
        "model_type": kind,
        "vocab_size": vocabulary(meta),
        "hidden_size": width,
        "intermediate_size": more.get("intermediate_size") or _width(meta, width),
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": more.get("num_key_value_heads") or _kv_heads(meta, heads),
        "head_dim": int(meta.optional("attention.key_length", width // heads)),
        "max_position_embeddings": meta.count("context_length"),
        "rms_norm_eps": meta.need(eps),
        "hidden_act": "silu",
        "tie_word_embeddings": not meta.has("output.weight"),
        "rope_parameters": rope(meta),
        "dtype": "float32",
    }
    if name in OWN_HEAD_SIZE and "attention.key_length" not in meta.keys:
        del config["head_dim"]
    return config | more


def vocabulary(meta: Metadata) -> int:
    """Rows of the embedding."""
    return int(meta.tensors["token_embd.weight"].shape[-1]) if meta.has("token_embd.weight") else 0


def _width(meta: Metadata, width: int) -> int:
    return meta.count("feed_forward_length") if "feed_forward_length" in meta.keys else width


def _kv_heads(meta: Metadata, heads: int) -> int:
    return meta.count("attention.head_count_kv") if "attention.head_count_kv" in meta.keys else heads


def llama3_rope(meta: Metadata, config: Values) -> Values:
    """`config` with the scaling whose divisors of the rotary frequencies are a tensor of the file, if it has one."""
    if not meta.has("rope_freqs.weight"):
        return config
    base = config["rope_parameters"]["rope_theta"]
    made = llama3_scaling(meta, base, config["head_dim"], meta.values("rope_freqs.weight"))
    return config | {"rope_parameters": made}


def llama3_scaling(meta: Metadata, base: float, size: int, divisors: np.ndarray) -> Values:
    """The settings of `llama3` scaling that give these divisors [D/2]; ModelError where none does.

    Only the ratios of context and frequency factors matter, so `low_freq_factor` is 1.
    """
    if not divisors.size or divisors.size != size // 2:
        raise meta.refusal("rope.dimension_count", f"is {size}, and rope_freqs.weight holds {divisors.size} divisors")
    if np.all(divisors == 1):
        return {"rope_theta": base, "rope_type": "default"}
    factor = float(str(divisors.max()))
    for high in (4.0, 2.0, 8.0, 16.0, 32.0):
        for context in (1 << power for power in range(5, 24)):
            made = {
                "rope_theta": base, "rope_type": "llama3", "factor": factor, "low_freq_factor": 1.0,
                "high_freq_factor": high, "original_max_position_embeddings": context,
            }  # fmt: skip
            if np.allclose(llama3_rope_factors(made, size), divisors, rtol=1e-6, atol=0):
                return made
    text = "holds divisors of rotary frequencies that no `llama3` scaling gives"
    raise ModelError(text, where=f"{meta.file.path}: rope_freqs.weight", remedy=AGAIN)


def rope(meta: Metadata) -> Values:
    """Rope parameters in the form of transformers 5."""
    base = float(meta.value("rope.freq_base", 10000.0, "llama.cpp's rope base where a file has none"))
    kind = meta.optional("rope.scaling.type", "none")
    factor = float(meta.optional("rope.scaling.factor", meta.optional("rope.scale_linear", 0.0)) or 0.0)
    if kind == "yarn":
        made = {"rope_theta": base, "rope_type": "yarn", "factor": factor, "truncate": True}
        made["original_max_position_embeddings"] = meta.count("rope.scaling.original_context_length")
        for name, usual in (("beta_fast", 32.0), ("beta_slow", 1.0)):
            made[name] = float(meta.optional(f"rope.scaling.yarn_{name}", usual))
        return made
    if kind in ("linear", "none") and factor not in (0.0, 1.0):
        return {"rope_theta": base, "rope_type": "linear", "factor": factor}
    if kind not in ("linear", "none", "longrope"):
        raise meta.refusal("rope.scaling.type", f"is {kind!r}, which is not known")
    return {"rope_theta": base, "rope_type": "default"}


def turned(meta: Metadata, config: Values) -> float:
    """The part of each head that has rotary positions."""
    return float(int(meta.optional("rope.dimension_count", config["head_dim"])) / config["head_dim"])


def experts(meta: Metadata, name: str) -> Values:
    """How many experts there are, and their sizes."""
    return {
        name: meta.count("expert_count"),
        "num_experts_per_tok": meta.count("expert_used_count"),
        "moe_intermediate_size": meta.count("expert_feed_forward_length"),
    }


def windows(meta: Metadata, layers: int, period: int) -> list[str]:
    """The kind of every layer: llama.cpp's loaders have `period - 1` layers with a window and then one without."""
    key, rule = "attention.sliding_window_pattern", f"llama.cpp's loader of {meta.architecture}: every {period}th is full"
    pattern = meta.value(key, period, rule)
    if not isinstance(pattern, list):
        pattern = [int(pattern) != 0 and number % int(pattern) < int(pattern) - 1 for number in range(layers)]
    return ["sliding_attention" if flag else "full_attention" for flag in pattern[:layers]]
