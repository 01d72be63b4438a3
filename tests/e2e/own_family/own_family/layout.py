"""Nemotron as a GGUF file."""

from __future__ import annotations

from typing import Any

import numpy as np

from logitproof.gguf.layout import ATTENTION, Config, Layout, Planned, common_keys, layer

NORMS = ("attn_norm", "ffn_norm")


def nemotron(config: Config) -> Layout:
    """LayerNorm with a bias and a weight that is stored less one, no gate, positions on a part of each head."""
    names = dict(ATTENTION)
    for made, source in zip(NORMS, ("input_layernorm", "post_attention_layernorm"), strict=True):
        names |= {f"{made}.{kind}": f"{source}.{kind}" for kind in ("weight", "bias")}
    names |= {"ffn_up.weight": "mlp.up_proj.weight", "ffn_down.weight": "mlp.down_proj.weight"}
    centred = dict.fromkeys((f"{made}.weight" for made in NORMS), _plus_one)
    tensors = [
        Planned("token_embd.weight", ("model.embed_tokens.weight",)),
        Planned("output_norm.weight", ("model.norm.weight",), _plus_one),
        Planned("output_norm.bias", ("model.norm.bias",)),
        Planned("output.weight", ("lm_head.weight",)),
    ]
    for number in range(config.need("num_hidden_layers")):
        tensors += layer(number, names, centred)
    eps = float(config.need("norm_eps"))
    keys = common_keys(Config(config.values | {"rms_norm_eps": eps}, config.where), "relu2")
    turned = int(config.head_size * config.rope.get("partial_rotary_factor", 0.5))
    keys |= {"attention.layer_norm_epsilon": eps, "rope.dimension_count": turned, "vocab_size": config.need("vocab_size")}
    return Layout("nemotron", keys, tensors)


def _plus_one(arrays: list[Any]) -> Any:
    return arrays[0] + np.float32(1)
