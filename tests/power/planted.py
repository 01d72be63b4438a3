"""Models of every family and the checks that each mutation must pass on all that it applies to."""

from __future__ import annotations

import functools
import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from logitproof import catalog

torch.set_num_threads(1)
ZOO = Path(__file__).parents[2] / "zoo"
TRAINED = ("llama3", "qwen2.5", "qwen3", "qwen3-moe", "qwen3.5")
THROUGH_THE_CACHE = ("decode", "chunked prefill", "second sequence")
LONG = "more than 256 positions"
LOUDER_THAN_NOISE = 20
HALF_BITS = 11
SIZES: dict[str, Any] = {
    "vocab_size": 96,
    "hidden_size": 64,
    "intermediate_size": 80,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "tie_word_embeddings": False,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
MOE: dict[str, Any] = {"num_experts_per_tok": 2, "moe_intermediate_size": 24}
DELTA_NET: dict[str, Any] = {
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
LATENT: dict[str, Any] = {
    "num_experts_per_tok": 3,
    "n_routed_experts": 8,
    "n_group": 4,
    "topk_group": 2,
    "first_k_dense_replace": 1,
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 12,
    "n_shared_experts": 1,
    "num_key_value_heads": 4,
    "moe_intermediate_size": 24,
}
LOCAL_AND_GLOBAL: dict[str, Any] = {
    "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
    "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
}
LONGROPE: dict[str, Any] = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "partial_rotary_factor": 0.75,
    "short_factor": [1.0, 1.1, 1.2, 1.3, 1.4, 1.5],
    "long_factor": [1.0, 2.0, 4.0, 8.0, 16.0, 32.0],
    "original_max_position_embeddings": 64,
}
CONFIGS: dict[str, Any] = {
    "llama-gelu": transformers.LlamaConfig(**SIZES, hidden_act="gelu", mlp_bias=True, attention_bias=True),
    "mistral": transformers.MistralConfig(**SIZES, head_dim=16, sliding_window=20),
    "phi3": transformers.Phi3Config(**SIZES),
    "gemma2": transformers.Gemma2Config(**SIZES | {"hidden_size": 56}, head_dim=16, sliding_window=20),
    "gemma3": transformers.Gemma3TextConfig(**SIZES | {"hidden_size": 56}, head_dim=16, sliding_window=20),
    "granite": transformers.GraniteConfig(
        **SIZES, embedding_multiplier=3.0, logits_scaling=2.0, residual_multiplier=0.7, attention_multiplier=0.2
    ),
    "gpt-oss": transformers.GptOssConfig(
        **SIZES,
        head_dim=16,
        num_local_experts=6,
        num_experts_per_tok=2,
        sliding_window=20,
        swiglu_limit=0.8,
    ),
    "mixtral": transformers.MixtralConfig(**SIZES, num_local_experts=5, num_experts_per_tok=2),
    "qwen2-moe": transformers.Qwen2MoeConfig(**SIZES, **MOE, num_experts=6, shared_expert_intermediate_size=40),
    "qwen3.5-moe": transformers.Qwen3_5MoeTextConfig(
        **SIZES, **MOE, **DELTA_NET, num_experts=6, shared_expert_intermediate_size=40
    ),
    "deepseek-v3": transformers.DeepseekV3Config(**SIZES | LATENT, routed_scaling_factor=2.5),
    "gemma3-scaled": transformers.Gemma3TextConfig(
        **SIZES | {"hidden_size": 56},
        head_dim=16,
        sliding_window=20,
        rope_parameters=LOCAL_AND_GLOBAL,
        layer_types=["sliding_attention", "full_attention"],
        query_pre_attn_scalar=28,
    ),
    "phi3-longrope": transformers.Phi3Config(**SIZES, original_max_position_embeddings=64, rope_parameters=LONGROPE),
    "phi3-partial": transformers.Phi3Config(
        **SIZES, rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5}
    ),
    "smollm3": transformers.SmolLM3Config(**SIZES | {"num_hidden_layers": 4}),
    "olmo2": transformers.Olmo2Config(**SIZES),
    "llama4": transformers.Llama4TextConfig(
        **SIZES,
        head_dim=16,
        intermediate_size_mlp=80,
        num_local_experts=4,
        attention_chunk_size=12,
        layer_types=["chunked_attention", "full_attention"],
    ),
}
FAMILIES = (*TRAINED, *CONFIGS)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Many small passes are quicker on one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def planted(family_of_bugs: str, needs: tuple[str, ...] = ("", "outliers", LONG, *THROUGH_THE_CACHE)) -> list[Any]:
    """One test case for each mutation of a family, each model that it applies to and each value of its grid."""
    cases = []
    for name in catalog.entries("mutations"):
        if name.startswith(f"{family_of_bugs}.") and catalog.load("mutations", name).needs in needs:
            for options in _grid(catalog.load("mutations", name)):
                mutation = catalog.load("mutations", name)(**options)
                for model in FAMILIES:
                    if mutation.applies(config(model)):
                        text = "-".join(str(value) for value in options.values())
                        cases.append(pytest.param(mutation, model, id=f"{name}-{text}-{model}"))
    return cases


def check(mutation: Any, family: str) -> None:
    """The mutation is louder than noise, or as silent as its proof says, and leaves the model as it was.

    A bug that says that it grows with the position may need a long sequence to be loud.
    """
    mode = mutation.needs if mutation.needs in (LONG, *THROUGH_THE_CACHE) else "prefill"
    quiet = LOUDER_THAN_NOISE * noise(family)
    wrong, clean = _planted_once(mutation, family, mode), right(family, mode)
    if mode == "prefill" and "growing with position" in mutation.shows and distance(wrong, clean) < quiet:
        wrong, clean = _planted_once(mutation, family, LONG), right(family, LONG)
    if "position 0 exact" in mutation.shows and not _scales_the_rotation(family):
        assert distance(wrong[0], clean[0]) < quiet
    assert torch.isfinite(wrong).all()
    if mutation.equivalent:
        assert (wrong.log_softmax(-1) - clean.log_softmax(-1)).abs().max() < quiet
    else:
        # the eleven bits of float16 are a few times louder than float32 where a model amplifies what is rounded
        assert distance(wrong, clean) > (noise(family) if getattr(mutation, "bits", 0) >= HALF_BITS else quiet)


def check_ranges(family_of_bugs: str) -> None:
    """A search covers the default and every value of the grid, and mutates on both of its limits."""
    kinds = [catalog.load("mutations", name) for name in catalog.entries("mutations") if name.startswith(f"{family_of_bugs}.")]
    assert any(kind.ranges for kind in kinds)
    for kind in kinds:
        for name, (low, high) in kind.ranges.items():
            assert 0 < low < high and all(low <= value <= high for value in (getattr(kind, name), *kind.grid[name])), kind
            for mutation in (kind(**{name: low}), kind(**{name: high})):
                family = next(one for one in FAMILIES if mutation.applies(config(one)))
                with mutation.applied_to(build(family)):
                    assert torch.isfinite(run(build(family), tokens(family))).all(), (kind, family)


def distance(wrong: torch.Tensor, clean: torch.Tensor) -> float:
    """The largest difference of a logit; infinite where a logit is not finite."""
    return float((wrong - clean).abs().nan_to_num(nan=torch.inf).max())


def config(family: str) -> Any:
    """The config of a trained model of the zoo or of a tiny random one."""
    return CONFIGS[family] if family in CONFIGS else _zoo_config(family)


@functools.cache
def build(family: str) -> Any:
    """The model in float32, eager."""
    options = {"attn_implementation": "eager", "experts_implementation": "eager", "dtype": torch.float32}
    if family in TRAINED:
        return transformers.AutoModelForCausalLM.from_pretrained(ZOO / family, **options).eval()
    torch.manual_seed(30)
    model = transformers.AutoModelForCausalLM.from_config(CONFIGS[family], **options).eval()
    generator = torch.Generator().manual_seed(31)
    with torch.no_grad():
        for parameter in model.parameters():
            spread = 0.3 if parameter.ndim == 1 else 1.6 * parameter.shape[-1] ** -0.5
            parameter.add_(torch.randn(parameter.shape, generator=generator) * spread)
        for name, buffer in model.named_buffers():
            if name.endswith("e_score_correction_bias"):
                buffer.copy_(torch.randn(buffer.shape, generator=generator) * 0.2)
    return model


def tokens(family: str, seed: int = 6, length: int = 64) -> torch.Tensor:
    """Token ids [1, T] of the family's vocabulary, beginning with no special one."""
    size = min(config(family).vocab_size, 1400)
    return torch.tensor(np.random.default_rng(seed).integers(3, size, (1, length)))


def run(model: Any, ids: torch.Tensor, mode: str = "prefill") -> torch.Tensor:
    """Logits [T, V]; in one pass, token by token, in pieces, or token by token after another sequence."""
    with torch.inference_mode():
        if mode in ("prefill", LONG):
            return model(ids, use_cache=False).logits[0]
        if mode == "second sequence":
            run(model, ids.flip(-1), "decode")
        cache, rows = None, []
        for part in ids.split(24 if mode == "chunked prefill" else 1, dim=1):
            out = model(part, past_key_values=cache, use_cache=True)
            cache = out.past_key_values
            rows.append(out.logits[0])
        return torch.cat(rows)


@functools.cache
def right(family: str, mode: str = "prefill") -> torch.Tensor:
    """The logits of the unmutated model."""
    return run(build(family), _tokens_for(family, mode), mode)


@functools.cache
def noise(family: str) -> float:
    """What float32 alone moves a logit: the largest difference of prefill and decode."""
    clean = right(family)
    return max(distance(right(family, "decode"), clean), float(clean.abs().max()) * 2**-23)


def state(model: Any) -> dict[str, Any]:
    """Every value and every place in which a mutation could leave something behind."""
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    found: dict[str, Any] = {
        name: (id(one), one.data_ptr(), hashlib.sha256(one.detach().contiguous().numpy().tobytes()).hexdigest())
        for name, one in tensors.items()
    }
    for name, module in model.named_modules():
        own = {key: id(value) for key, value in vars(module).items() if not key.startswith("_")}
        hooks = [len(module._forward_hooks), len(module._forward_pre_hooks)]
        found[f"module {name}"] = (id(module), own, hooks, {key: id(one) for key, one in module._modules.items()})
        file = type(module).__module__
        found[f"file {file}"] = {key: id(value) for key, value in vars(sys.modules[file]).items() if callable(value)}
    for place in (transformers.cache_utils, torch.nn.functional):
        found[place.__name__] = {key: id(value) for key, value in vars(place).items() if callable(value)}
    return found


def _planted_once(mutation: Any, family: str, mode: str) -> torch.Tensor:
    """The logits with the bug; the model must be bit-equal once it is gone."""
    model, clean = build(family), right(family, mode)
    run(model, _tokens_for(family, mode), mode)
    before = state(model)
    with mutation.applied_to(model):
        wrong = run(model, _tokens_for(family, mode), mode)
    assert torch.equal(run(model, _tokens_for(family, mode), mode), clean)
    assert state(model) == before
    return wrong


def _scales_the_rotation(family: str) -> bool:
    """YaRN and LongRoPE scale cosine and sine, so that without them position 0 is another too."""
    parameters = getattr(config(family), "rope_parameters", None) or {}
    return parameters.get("rope_type") in ("yarn", "longrope")


def _tokens_for(family: str, mode: str) -> torch.Tensor:
    return tokens(family, length=320 if mode == LONG else 64)


@functools.cache
def _zoo_config(family: str) -> Any:
    return transformers.AutoConfig.from_pretrained(ZOO / family)


def _grid(kind: Any) -> Iterator[dict[str, Any]]:
    yield {}
    for name, values in kind.grid.items():
        for value in values:
            if value != getattr(kind, name):
                yield {name: value}
