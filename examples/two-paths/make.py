"""Two code paths of one engine that do not agree: which is right, and which operation is the first that is wrong?

    python examples/two-paths/make.py OUT
    logitproof localize transformers:OUT/model OUT/fused OUT/simple

The engine is NumPy, one Qwen3 layer with small whole numbers as weights. Its `simple` path is right. Its `fused` path
reads the square matrices of Q and O without transposing them: every shape fits, every key is there, and the logits are
several units off.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
import transformers
import yaml

HIDDEN, HEADS, SIZE, INNER, VOCABULARY = 32, 2, 16, 64, 64
BASE, EPS = 1e6, 1e-6
TOKENS = [7, 3, 42, 11, 60, 5, 23, 18, 9, 31]
Weights = dict[str, np.ndarray]


def main() -> int:
    """Write the model and what each path computed."""
    if len(sys.argv) != 2:
        sys.exit("usage: make.py OUT")
    out = Path(sys.argv[1])
    weights = save_model(out / "model")
    for name, transposed in (("simple", False), ("fused", True)):
        taps = forward(weights, transposed=transposed)
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


def save_model(folder: Path) -> Weights:
    """A Qwen3 of one layer, its weights small whole numbers, saved as a Hugging Face folder."""
    config = transformers.Qwen3Config(
        hidden_size=HIDDEN, num_attention_heads=HEADS, num_key_value_heads=HEADS, head_dim=SIZE,
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
            parameter.copy_(torch.from_numpy(values).float())
    model.save_pretrained(folder)
    return {name: parameter.detach().numpy().astype(np.float64) for name, parameter in model.named_parameters()}


def forward(weights: Weights, *, transposed: bool) -> dict[str, np.ndarray]:
    """Every intermediate tensor by its tap, float64."""
    layer = {name.removeprefix("model.layers.0."): values for name, values in weights.items()}

    def project(x: np.ndarray, name: str) -> np.ndarray:
        matrix = layer[f"{name}.weight"]
        square = transposed and name in ("self_attn.q_proj", "self_attn.o_proj")
        return x @ (matrix if square else matrix.T)

    def norm(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + EPS) * weight

    angles = np.arange(len(TOKENS))[:, None] * BASE ** (-np.arange(0, SIZE, 2) / SIZE)
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
        heads[letter] = t[f"layers.0.attn.{letter}_proj"].reshape(len(TOKENS), HEADS, SIZE)
    for letter in "qk":
        t[f"layers.0.attn.{letter}"] = norm(heads[letter], layer[f"self_attn.{letter}_norm.weight"])
        t[f"layers.0.attn.{letter}_rope"] = rotate(t[f"layers.0.attn.{letter}"])
    scores = np.einsum("thd,shd->hts", t["layers.0.attn.q_rope"], t["layers.0.attn.k_rope"]) / np.sqrt(SIZE)
    t["layers.0.attn.scores"] = scores
    masked = np.where(np.tril(np.ones(scores.shape[1:], bool)), scores, -np.inf)
    p = np.exp(masked - masked.max(-1, keepdims=True))
    t["layers.0.attn.probs"] = p = p / p.sum(-1, keepdims=True)
    t["layers.0.attn.context"] = np.einsum("hts,shd->thd", p, heads["v"]).reshape(len(TOKENS), -1)
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
