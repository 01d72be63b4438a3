"""Shapes of published models: the config that their makers state, and the name and size of every tensor.

Sources are the `config.json` of meta-llama/Meta-Llama-3-8B, Qwen/Qwen2.5-7B, Qwen/Qwen3-0.6B, Qwen/Qwen3-30B-A3B and
the text model of Qwen/Qwen3.5-0.8B. Tokens that begin and end a text are left out: a fabricated model has no tokenizer.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from logitproof.errors import ContractError

Config = dict[str, Any]
Sizes = tuple[int, ...]

COMMON: Config = {
    "attention_bias": False, "attention_dropout": 0.0, "bos_token_id": None, "dtype": "bfloat16", "eos_token_id": None,
    "hidden_act": "silu", "initializer_range": 0.02, "use_cache": True,
}  # fmt: skip


def _config(architecture: str, family: str, theta: float, **values: Any) -> Config:
    rope = {"rope_theta": theta, "rope_type": "default"}
    return {"architectures": [architecture], "model_type": family, "rope_parameters": rope, **COMMON, **values}


SHAPES: dict[str, Config] = {
    "llama3-8b": _config(
        "LlamaForCausalLM", "llama", 500000.0,
        hidden_size=4096, intermediate_size=14336, num_hidden_layers=32, num_attention_heads=32, num_key_value_heads=8,
        head_dim=128, vocab_size=128256, max_position_embeddings=8192, rms_norm_eps=1e-5, tie_word_embeddings=False,
        mlp_bias=False,
    ),
    "qwen2.5-7b": _config(
        "Qwen2ForCausalLM", "qwen2", 1000000.0,
        hidden_size=3584, intermediate_size=18944, num_hidden_layers=28, num_attention_heads=28, num_key_value_heads=4,
        vocab_size=152064, max_position_embeddings=131072, rms_norm_eps=1e-6, tie_word_embeddings=False,
        use_sliding_window=False, sliding_window=None,
    ),
    "qwen3-0.6b": _config(
        "Qwen3ForCausalLM", "qwen3", 1000000.0,
        hidden_size=1024, intermediate_size=3072, num_hidden_layers=28, num_attention_heads=16, num_key_value_heads=8,
        head_dim=128, vocab_size=151936, max_position_embeddings=40960, rms_norm_eps=1e-6, tie_word_embeddings=True,
        use_sliding_window=False, sliding_window=None,
    ),
    "qwen3-30b-a3b": _config(
        "Qwen3MoeForCausalLM", "qwen3_moe", 1000000.0,
        hidden_size=2048, intermediate_size=6144, moe_intermediate_size=768, num_hidden_layers=48, num_attention_heads=32,
        num_key_value_heads=4, head_dim=128, num_experts=128, num_experts_per_tok=8, norm_topk_prob=True,
        decoder_sparse_step=1, mlp_only_layers=[], vocab_size=151936, max_position_embeddings=40960, rms_norm_eps=1e-6,
        tie_word_embeddings=False, use_sliding_window=False, sliding_window=None,
    ),
    "qwen3.5-0.8b": _config(
        "Qwen3_5ForCausalLM", "qwen3_5_text", 10000000.0,
        hidden_size=1024, intermediate_size=3584, num_hidden_layers=24, num_attention_heads=8, num_key_value_heads=2,
        head_dim=256, linear_conv_kernel_dim=4, linear_key_head_dim=128, linear_value_head_dim=128,
        linear_num_key_heads=16, linear_num_value_heads=16, vocab_size=248320, max_position_embeddings=262144,
        rms_norm_eps=1e-6, tie_word_embeddings=True,
    ),
}  # fmt: skip
PERIOD = 4
"""Of Qwen3.5's layers each fourth has full attention."""


def shape(name: str, layers: int | None = None) -> Config:
    """The config of a shape, with fewer layers where they are given. Raises ContractError for what is not there."""
    if name not in SHAPES:
        raise ContractError(f"no shape is called {name!r}", remedy=f"one of {', '.join(SHAPES)}")
    config = dict(SHAPES[name])
    most = config["num_hidden_layers"]
    if layers is not None and not 1 <= layers <= most:
        raise ContractError(f"{layers} layers of {name}, which has {most}", where="--layers", remedy=f"1 to {most}")
    config["num_hidden_layers"] = layers or most
    if config["model_type"] == "qwen3_5_text":
        rope = {"mrope_interleaved": True, "mrope_section": [11, 11, 10], "partial_rotary_factor": 0.25}
        config["rope_parameters"] = {**config["rope_parameters"], **rope}
        full = [number % PERIOD == PERIOD - 1 for number in range(config["num_hidden_layers"])]
        config["layer_types"] = ["full_attention" if attends else "linear_attention" for attends in full]
    return config


def tensors(config: Config) -> Iterator[tuple[str, Sizes]]:
    """Name and sizes of every tensor of the checkpoint, in the order in which a pass needs them."""
    width, vocabulary = config["hidden_size"], config["vocab_size"]
    yield "model.embed_tokens.weight", (vocabulary, width)
    for number in range(config["num_hidden_layers"]):
        linear = config.get("layer_types", [""] * (number + 1))[number] == "linear_attention"
        parts = [("input_layernorm.weight", (width,)), *(_recurrent(config) if linear else _attention(config))]
        parts += [("post_attention_layernorm.weight", (width,)), *_feed_forward(config)]
        yield from ((f"model.layers.{number}.{name}", sizes) for name, sizes in parts)
    yield "model.norm.weight", (width,)
    if not config["tie_word_embeddings"]:
        yield "lm_head.weight", (vocabulary, width)


def _attention(config: Config) -> Iterator[tuple[str, Sizes]]:
    width, heads, groups = (config[name] for name in ("hidden_size", "num_attention_heads", "num_key_value_heads"))
    size, family = config.get("head_dim") or width // heads, config["model_type"]
    gated = 2 if family == "qwen3_5_text" else 1
    rows = {"q": gated * heads * size, "k": groups * size, "v": groups * size}
    for letter, count in rows.items():
        yield f"self_attn.{letter}_proj.weight", (count, width)
        if family == "qwen2":
            yield f"self_attn.{letter}_proj.bias", (count,)
    yield "self_attn.o_proj.weight", (width, heads * size)
    if family.startswith("qwen3"):
        yield from ((f"self_attn.{letter}_norm.weight", (size,)) for letter in "qk")


def _recurrent(config: Config) -> Iterator[tuple[str, Sizes]]:
    """Gated DeltaNet."""
    width, heads, size = config["hidden_size"], config["linear_num_value_heads"], config["linear_value_head_dim"]
    keys, values = config["linear_num_key_heads"] * config["linear_key_head_dim"], heads * size
    rows = 2 * keys + values
    yield from ((f"linear_attn.{name}", (heads,)) for name in ("A_log", "dt_bias"))
    yield "linear_attn.conv1d.weight", (rows, 1, config["linear_conv_kernel_dim"])
    yield from ((f"linear_attn.in_proj_{name}.weight", (heads, width)) for name in "ab")
    yield "linear_attn.in_proj_qkv.weight", (rows, width)
    yield "linear_attn.in_proj_z.weight", (values, width)
    yield "linear_attn.norm.weight", (size,)
    yield "linear_attn.out_proj.weight", (width, values)


def _feed_forward(config: Config) -> Iterator[tuple[str, Sizes]]:
    width, experts = config["hidden_size"], config.get("num_experts", 0)
    inner = config["moe_intermediate_size"] if experts else config["intermediate_size"]
    sizes = {"gate": (inner, width), "up": (inner, width), "down": (width, inner)}
    if not experts:
        yield from ((f"mlp.{part}_proj.weight", size) for part, size in sizes.items())
        return
    yield "mlp.gate.weight", (experts, width)
    for number in range(experts):
        yield from ((f"mlp.experts.{number}.{part}_proj.weight", size) for part, size in sizes.items())
