"""Interleaved instead of split-half RoPE pairs: planted by the harness, exact where the bug is exact."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from logitproof.engines.transformers import Transformers
from logitproof.errors import Refusal
from logitproof.mutations.rope.rotation import Interleaved, rotate_interleaved

BUG = "rope.pairing.interleaved"
IDS = [int(token) for token in np.random.default_rng(6).integers(0, 96, 24)]
SIZES: dict[str, Any] = {
    "vocab_size": 96,
    "hidden_size": 64,
    "intermediate_size": 80,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
}
MOE = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
HYBRID = {
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "layer_types": ["linear_attention", "full_attention"],
    "head_dim": 16,
    "rope_parameters": {
        "rope_type": "default",
        "rope_theta": 10000.0,
        "partial_rotary_factor": 0.5,
        "mrope_section": [2, 1, 1],
    },
}
CONFIGS = {
    "llama": transformers.LlamaConfig(**SIZES),
    "qwen2": transformers.Qwen2Config(**SIZES),
    "qwen3": transformers.Qwen3Config(**SIZES, head_dim=16),
    "qwen3_moe": transformers.Qwen3MoeConfig(**SIZES, **MOE, head_dim=16),
    "qwen3_5": transformers.Qwen3_5TextConfig(**SIZES | HYBRID),
    "mistral": transformers.MistralConfig(**SIZES, head_dim=16),
    "phi3": transformers.Phi3Config(**SIZES, pad_token_id=0),
}
families = pytest.mark.parametrize("family", list(CONFIGS))


def build(family: str) -> Any:
    torch.manual_seed(30)
    model = transformers.AutoModelForCausalLM.from_config(CONFIGS[family], attn_implementation="eager").eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape) * (0.3 if parameter.ndim == 1 else 1.6 * parameter.shape[-1] ** -0.5))
    return model


def run(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        return model(torch.tensor([IDS]), use_cache=False).logits[0]


@families
def test_position_0_is_exact_and_later_ones_are_wrong(family: str) -> None:
    model, bug = build(family), Interleaved()
    right = run(model)
    assert bug.applies(model.config)
    with bug.applied_to(model):
        wrong = run(model)
    assert torch.equal(wrong[0], right[0])
    assert (wrong[1:] - right[1:]).abs().amax(-1).min() > 1e-3
    assert torch.equal(run(model), right), "the model must be bit-equal once the bug is gone"


@families
def test_only_the_planted_model_has_the_bug(family: str) -> None:
    model, other = build(family), build(family)
    right = run(other)
    with Interleaved().applied_to(model):
        run(model)
        assert torch.equal(run(other), right)
        with pytest.raises(IndexError):
            model(torch.tensor([[10_000]]))
        assert torch.equal(run(other), right), "an exception inside the forward must not leave the bug behind"


def test_a_failure_inside_a_layer_leaves_nothing_behind() -> None:
    model, other = build("qwen3"), build("qwen3")
    right = run(other)
    model.model.layers[0].self_attn.o_proj.weight = torch.nn.Parameter(torch.ones(3, 3))
    with Interleaved().applied_to(model):
        with pytest.raises(RuntimeError):
            run(model)
        assert torch.equal(run(other), right)


def test_it_is_the_unpermuted_weight_bug() -> None:
    """Interleaved rotation of Q and K whose rows were permuted to interleaved order is the right model again."""
    model = build("qwen2")
    right = run(model)
    size = model.config.hidden_size // model.config.num_attention_heads
    with torch.no_grad():
        for layer in model.model.layers:
            for projection in (layer.self_attn.q_proj, layer.self_attn.k_proj):
                for parameter in (projection.weight, projection.bias):
                    halves = parameter.reshape(-1, 2, size // 2, *parameter.shape[1:])
                    parameter.copy_(halves.swapaxes(1, 2).reshape(parameter.shape).clone())
    with Interleaved().applied_to(model):
        assert (run(model) - right).abs().max() < 1e-4


def test_the_rotation_is_that_of_complex_numbers_and_spares_the_tail() -> None:
    generator = torch.Generator().manual_seed(3)
    q, k = (torch.randn(1, heads, 5, 12, dtype=torch.float64, generator=generator) for heads in (4, 2))
    angles = torch.randn(1, 5, 4, dtype=torch.float64, generator=generator)
    table = torch.cat((angles, angles), dim=-1)
    turns = torch.polar(torch.ones_like(angles), angles)[:, None]
    for given, made in zip((q, k), rotate_interleaved(q, k, table.cos(), table.sin()), strict=True):
        expected = torch.view_as_complex(given[..., :8].reshape(*given.shape[:-1], 4, 2)) * turns
        assert torch.allclose(made[..., :8], torch.view_as_real(expected).flatten(-2), atol=1e-14)
        assert torch.equal(made[..., 8:], given[..., 8:])


def test_it_does_not_apply_where_it_would_change_nothing_or_is_no_bug() -> None:
    assert not Interleaved().applies(transformers.LlamaConfig(**SIZES, head_dim=2))
    assert not Interleaved().applies(transformers.CohereConfig(**SIZES))
    assert not Interleaved().applies(transformers.GPT2Config())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_engine_plants_it_for_good(tmp_path: Path, dtype: Any) -> None:
    build("qwen3").save_pretrained(tmp_path)
    right, wrong = Transformers(dtype=dtype), Transformers(dtype=dtype, mutation=BUG)
    right.load(tmp_path)
    assert wrong.load(tmp_path).details["mutation"] == BUG
    expected = right.score(IDS, "prefill").logits
    observed = wrong.score(IDS, "prefill").logits
    assert np.array_equal(observed[0], expected[0])
    assert np.abs(observed[1:] - expected[1:]).max(-1).min() > 1e-3
    assert np.abs(wrong.score(IDS, "decode").logits - observed).max() < 1e-4
    assert np.array_equal(right.score(IDS, "prefill").logits, expected)


def test_the_engine_refuses_what_it_cannot_plant(tmp_path: Path) -> None:
    transformers.LlamaForCausalLM(transformers.LlamaConfig(**SIZES, head_dim=2)).save_pretrained(tmp_path)
    for options, text in (
        ({"mutation": BUG}, "cannot happen"),
        ({"mutation": "rope.pairing.interleavd"}, "did you mean"),
        ({"mutation": BUG, "mutation_options": {"layer": 1}}, "layer"),
    ):
        with pytest.raises(Refusal, match=text):
            Transformers(**options).load(tmp_path)
