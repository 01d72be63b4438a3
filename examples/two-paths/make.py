"""Two code paths of one engine that do not agree: which is right, and which operation is the first that is wrong?

    python examples/two-paths/make.py OUT [--twin]
    logitproof localize transformers:OUT/model OUT/fused OUT/simple

The engine is NumPy, one Qwen3 layer with small whole numbers as weights. Its `simple` path is right. Its `fused` path
reads the matrices of Q and O with their sides exchanged, which transposes square ones: every shape fits, every key is there,
and the logits are several units off. `--twin` makes the same of a model that is not square (40 wide, 4 heads of 16, 2 of K
and V): there the buffer is scrambled, not transposed. Further paths plant what else was suspected, one fault each, so that a
test that clears a suspicion is known to be able to confirm it: `converter`, a checkpoint whose Q was written transposed,
`broadcast`, where the weights of QK-norm run along the heads, `base`, another RoPE base, and `scale`, of the whole width.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import transformers
import yaml

SIZE, INNER, VOCABULARY = 16, 64, 64
BASE, EPS = 1e6, 1e-6
TOKENS = [7, 3, 42, 11, 60, 5, 23, 18, 9, 31]
PATHS = ("simple", "fused", "broadcast", "base", "scale")
Weights = dict[str, np.ndarray]


@dataclass(frozen=True)
class Shape:
    """Width, heads, and heads of K and V."""

    hidden: int = 32
    heads: int = 2
    kv_heads: int = 2


SQUARE, TWIN = Shape(), Shape(40, 4, 2)


def main() -> int:
    """Write the model and what each path computed."""
    words = [word for word in sys.argv[1:] if word != "--twin"]
    if len(words) != 1:
        sys.exit("usage: make.py OUT [--twin]")
    out, shape = Path(words[0]), TWIN if "--twin" in sys.argv else SQUARE
    weights = save_model(out / "model", shape)
    if shape == SQUARE:
        save_model(out / "converter", shape, transposed="model.layers.0.self_attn.q_proj.weight")
    for name in PATHS:
        taps = forward(weights, shape, name)
        folder = out / name
        folder.mkdir(parents=True, exist_ok=True)
        for tap, values in taps.items():
            np.save(folder / f"{tap}.npy", values.astype(np.float32))
        np.save(folder / "rows.npy", taps["logits"].astype(np.float32))
        beside = {"token_ids": TOKENS, "prompt_length": len(TOKENS), "id": "ids", "provenance": {"path": name}}
        (folder / "rows.npy.json").write_text(json.dumps(beside), "utf-8")
        mapping = {tap: {"file": f"{tap}.npy"} for tap in taps}
        (folder / "taps.yaml").write_text(yaml.safe_dump({"token_ids": TOKENS, "taps": mapping}), "utf-8")
    return 0


def save_model(folder: Path, shape: Shape, transposed: str = "") -> Weights:
    """A Qwen3 of one layer, its weights small whole numbers, saved as a Hugging Face folder; one matrix perhaps transposed."""
    config = transformers.Qwen3Config(
        hidden_size=shape.hidden, num_attention_heads=shape.heads, num_key_value_heads=shape.kv_heads, head_dim=SIZE,
        intermediate_size=INNER,
        vocab_size=VOCABULARY, num_hidden_layers=1, rms_norm_eps=EPS,
        rope_parameters={"rope_type": "default", "rope_theta": BASE},
        tie_word_embeddings=False, bos_token_id=0, eos_token_id=1, max_position_embeddings=128,
    )  # fmt: skip
    model = transformers.Qwen3ForCausalLM(config).float().eval()
    random = np.random.default_rng(5)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            low, high, scale = (1, 4, 0.5) if "norm" in name else (-3, 4, 0.125)
            values = random.integers(low, high, tuple(parameter.shape)) * scale
            parameter.copy_(torch.from_numpy(values.T if name == transposed else values).float())
    model.save_pretrained(folder)
    return {name: parameter.detach().numpy().astype(np.float64) for name, parameter in model.named_parameters()}


def forward(weights: Weights, shape: Shape, path: str) -> dict[str, np.ndarray]:
    """Every intermediate tensor by its tap, float64, as one of PATHS computes it."""
    layer = {name.removeprefix("model.layers.0."): values for name, values in weights.items()}

    def project(x: np.ndarray, name: str) -> np.ndarray:
        matrix = layer[f"{name}.weight"]
        if path == "fused" and name in ("self_attn.q_proj", "self_attn.o_proj"):
            return x @ matrix.reshape(matrix.shape[::-1])
        return x @ matrix.T

    def norm(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + EPS) * weight

    base = 1e4 if path == "base" else BASE
    angles = np.arange(len(TOKENS))[:, None] * base ** (-np.arange(0, SIZE, 2) / SIZE)
    cos, sin = (np.concatenate([part, part], -1)[:, None] for part in (np.cos(angles), np.sin(angles)))

    def rotate(x: np.ndarray) -> np.ndarray:
        half = SIZE // 2
        return x * cos + np.concatenate([-x[..., half:], x[..., :half]], -1) * sin

    t: dict[str, np.ndarray] = {}
    x = t["embedding"] = weights["model.embed_tokens.weight"][TOKENS]
    a = t["layers.0.attn_norm"] = norm(x, layer["input_layernorm.weight"])
    heads = {}
    for letter in "qkv":
        t[f"layers.0.attn.{letter}_proj"] = project(a, f"self_attn.{letter}_proj")
        heads[letter] = t[f"layers.0.attn.{letter}_proj"].reshape(len(TOKENS), -1, SIZE)
    for letter in "qk":
        weight = layer[f"self_attn.{letter}_norm.weight"]
        if path == "broadcast":  # the weight of head h is used for the whole of head h
            weight = np.repeat(weight[: heads[letter].shape[1], None], SIZE, 1)
        t[f"layers.0.attn.{letter}"] = norm(heads[letter], weight)
        t[f"layers.0.attn.{letter}_rope"] = rotate(t[f"layers.0.attn.{letter}"])
    group = shape.heads // shape.kv_heads
    keys, values = (np.repeat(part, group, 1) for part in (t["layers.0.attn.k_rope"], heads["v"]))
    width = shape.hidden if path == "scale" else SIZE
    scores = np.einsum("thd,shd->hts", t["layers.0.attn.q_rope"], keys) / np.sqrt(width)
    t["layers.0.attn.scores"] = scores
    masked = np.where(np.tril(np.ones(scores.shape[1:], bool)), scores, -np.inf)
    p = np.exp(masked - masked.max(-1, keepdims=True))
    t["layers.0.attn.probs"] = p = p / p.sum(-1, keepdims=True)
    t["layers.0.attn.context"] = np.einsum("hts,shd->thd", p, values).reshape(len(TOKENS), -1)
    t["layers.0.attn.out"] = project(t["layers.0.attn.context"], "self_attn.o_proj")
    x = t["layers.0.residual"] = x + t["layers.0.attn.out"]
    f = t["layers.0.ffn_norm"] = norm(x, layer["post_attention_layernorm.weight"])
    gate, up = (t.setdefault(f"layers.0.mlp.{one}", project(f, f"mlp.{one}_proj")) for one in ("gate", "up"))
    t["layers.0.mlp.activation"] = gate / (1 + np.exp(-gate)) * up
    t["layers.0.mlp.out"] = project(t["layers.0.mlp.activation"], "mlp.down_proj")
    x = t["layers.0.out"] = x + t["layers.0.mlp.out"]
    t["norm"] = norm(x, weights["model.norm.weight"])
    t["logits"] = t["norm"] @ weights["lm_head.weight"].T
    return t


if __name__ == "__main__":
    sys.exit(main())
