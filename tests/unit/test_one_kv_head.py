"""Families that normalize the heads of K by themselves have taps in models with a single head of K and V, too."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from transformers import Gemma3ForCausalLM, Gemma3TextConfig, Qwen3Config, Qwen3ForCausalLM

from logitproof.reference.planted import Planted

IDS = (3, 1, 4, 1, 5)
SIZES: dict[str, Any] = {
    "vocab_size": 11, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
    "head_dim": 8, "attn_implementation": "eager",
}  # fmt: skip


@pytest.fixture(params=["gemma3", "qwen3"])
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def made(family: str, kv_heads: int) -> Any:
    torch.manual_seed(0)
    sizes = SIZES | {"num_key_value_heads": kv_heads}
    model = Gemma3ForCausalLM(Gemma3TextConfig(**sizes)) if family == "gemma3" else Qwen3ForCausalLM(Qwen3Config(**sizes))
    return model.eval()


@pytest.mark.parametrize("length", [1, 2, 5])
@pytest.mark.parametrize("kv_heads", [1, 2])
def test_norms_of_heads_have_their_taps(family: str, kv_heads: int, length: int) -> None:
    model = made(family, kv_heads)
    read: list[torch.Tensor] = []
    attention = model.model.layers[1].self_attn
    attention.k_norm.register_forward_hook(lambda module, given, out: read.append(out.detach()))
    names = ["layers.1.attn.q", "layers.1.attn.k", "logits"]
    taps = Planted(model, [IDS[:length]]).replay(names, {})
    assert taps["layers.1.attn.q"].shape == (length, 2, 8)
    assert taps["layers.1.attn.k"].shape == (length, kv_heads, 8)
    own = read[0][0].transpose(0, 1) if family == "gemma3" else read[0][0]  # [K, T, D] and [T, K, D]
    np.testing.assert_array_equal(taps["layers.1.attn.k"], own.numpy())


def test_a_tap_of_the_single_head_that_is_given_flows_on(family: str) -> None:
    model = made(family, 1)
    planted = Planted(model, [IDS])
    name = "layers.0.attn.k"
    right = planted.replay([name, "logits"], {})
    again = planted.replay(["logits"], {name: right[name]})
    changed = planted.replay(["logits"], {name: right[name] * np.float32(3)})
    np.testing.assert_array_equal(again["logits"], right["logits"])
    assert np.abs(changed["logits"] - right["logits"]).max() > 1e-3
