"""An engine of NumPy alone with faults written by hand: it shares no code with the library's bugs, nor with any engine of it.

A Qwen3: grouped-query attention with a norm on every query and key head, RoPE in halves, SwiGLU, float32.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import load_file

Array = np.ndarray


@dataclass
class Engine:
    """One checkpoint, and the faults that are planted by their names."""

    folder: Path
    faults: frozenset[str] = frozenset()
    config: dict[str, Any] = field(init=False)
    weights: dict[str, Array] = field(init=False)

    def __post_init__(self) -> None:
        self.config = json.loads((self.folder / "config.json").read_text())
        self.weights = {name: value.float().numpy() for name, value in load_file(self.folder / "model.safetensors").items()}
        if "layer 1 has the value matrix of layer 0" in self.faults:
            name = "model.layers.{}.self_attn.v_proj.weight"
            self.weights[name.format(1)] = self.weights[name.format(0)]
        if "down matrix of layer 1 missing" in self.faults:
            self.weights["model.layers.1.mlp.down_proj.weight"] *= 0

    def score(self, ids: Sequence[int]) -> Array:
        """Logits float32 [T, V]."""
        x = self.weights["model.embed_tokens.weight"][list(ids)]
        if "embedding row of a token" in self.faults:
            x = np.where(np.array(ids)[:, None] == TOKEN, np.float32(0), x)
        for layer in range(self.config["num_hidden_layers"]):
            x = self._layer(x, layer)
        x = x if "no last norm" in self.faults else self._norm(x, "model.norm.weight")
        head = self.weights.get("lm_head.weight", self.weights["model.embed_tokens.weight"])
        return self._reported(x @ head.T)

    def _reported(self, rows: Array) -> Array:
        changes: dict[str, Callable[[Array], Array]] = {
            "logits times 1.15": lambda z: z * np.float32(1.15),
            "logits rolled by three": lambda z: np.roll(z, 3, axis=1),
            "two logits exchanged": lambda z: z[:, [1, 0, *range(2, z.shape[1])]],
            "probabilities": lambda z: (
                np.exp(z - z.max(1, keepdims=True)) / np.exp(z - z.max(1, keepdims=True)).sum(1, keepdims=True)
            ),
            "arctan cap": lambda z: 9 * np.arctan(z / 9),
            "bias on the head": lambda z: z + np.sin(np.arange(z.shape[1], dtype=np.float32)),
        }
        for name, change in changes.items():
            if name in self.faults:
                rows = change(rows).astype(np.float32)
        return rows

    def _layer(self, x: Array, layer: int) -> Array:
        at = f"model.layers.{layer}."
        x = x + self._attention(self._norm(x, at + "input_layernorm.weight"), layer)
        y = self._norm(x, at + "post_attention_layernorm.weight")
        gate, up = (y @ self.weights[f"{at}mlp.{name}_proj.weight"].T for name in ("gate", "up"))
        active = np.maximum(gate, 0) if "relu" in self.faults else gate / (1 + np.exp(-gate))
        if "odd clamp of the gate" in self.faults:
            active = np.minimum(active, np.float32(0.4))
        return x + (active * up) @ self.weights[at + "mlp.down_proj.weight"].T

    def _attention(self, x: Array, layer: int) -> Array:
        at, heads, shared = (
            f"model.layers.{layer}.self_attn.",
            self.config["num_attention_heads"],
            self.config["num_key_value_heads"],
        )
        q, k, v = (x @ self.weights[f"{at}{name}_proj.weight"].T for name in "qkv")
        q, k, v = (part.reshape(len(x), count, -1) for part, count in ((q, heads), (k, shared), (v, shared)))
        if "no norm of queries and keys" not in self.faults:
            q, k = self._norm(q, at + "q_norm.weight"), self._norm(k, at + "k_norm.weight")
        q, k = self._turned(q), self._turned(k)
        if "keys rounded to 8 bits" in self.faults:
            step = np.abs(k).max(-1, keepdims=True) / 127
            k = np.round(k / step) * step
        group = np.arange(heads) % shared if "heads tiled" in self.faults else np.arange(heads) // (heads // shared)
        scale = np.float32(self.config.get("head_dim", q.shape[-1]) ** -0.5)
        scores = np.einsum("thd,shd->hts", q, k[:, group]) * scale * (np.float32(2) if "scores doubled" in self.faults else 1)
        scores = np.where(self._hidden(len(x)), np.float32(-1e30), scores)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        out = np.einsum("hts,shd->thd", weights, v[:, group])
        if "head 2 of layer 1 lost" in self.faults and layer == 1:
            out[:, 2] = 0
        return out.reshape(len(x), -1) @ self.weights[at + "o_proj.weight"].T

    def _hidden(self, count: int) -> Array:
        age = np.arange(count)[:, None] - np.arange(count)[None]
        hidden = age < 0
        if "own key hidden" in self.faults:
            hidden = hidden | ((age == 0) & (np.arange(count) > 0))
        if "chunks of 16 forget" in self.faults:
            hidden = hidden | ((np.arange(count)[:, None] % 16 == 0) & (age > 0))
        if "window of 16" in self.faults:
            hidden = hidden | (age >= 16)
        if "key 5 lost after 20" in self.faults:
            hidden = hidden | ((np.arange(count)[:, None] > 20) & (np.arange(count)[None] == 5))
        return hidden

    def _turned(self, x: Array) -> Array:
        size = x.shape[-1]
        rope = self.config.get("rope_parameters") or self.config
        base = 10_000.0 if "base 10,000" in self.faults else 70_000.0 if "base 70,000" in self.faults else rope["rope_theta"]
        positions = np.arange(len(x)) * (2 if "positions doubled" in self.faults else 1)
        angles = positions[:, None] * base ** (-np.arange(0, size, 2) / size)
        cos, sin = (np.tile(part, 2)[:, None].astype(np.float32) for part in (np.cos(angles), np.sin(angles)))
        left, right = np.split(x, 2, axis=-1)
        return x * cos + np.concatenate([-right, left], -1) * sin

    def _norm(self, x: Array, name: str) -> Array:
        weight = self.weights[name] + (1 if "one added to norms" in self.faults and "layernorm" in name else 0)
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + self.config["rms_norm_eps"]) * weight


TOKEN = 77
RIGHT: dict[str, set[str]] = {
    "no last norm": {"norm.final_missing"},
    "relu": {"mlp.relu_for_silu"},
    "no norm of queries and keys": {"norm.qk_missing"},
    "heads tiled": {"attention.heads_tiled"},
    "scores doubled": {"attention.scale_factor"},
    "own key hidden": {"attention.mask_misses_itself"},
    "window of 16": {"attention.window_invented"},
    "base 10,000": {"rope.base"},
    "base 70,000": {"rope.base"},
    "positions doubled": {"rope.twice", "rope.positions_multiplied"},
    "one added to norms": {"norm.one_added"},
    "logits times 1.15": {"head.temperature_applied", "head.scale_factor"},
    "probabilities": {"head.probabilities"},
    "head 2 of layer 1 lost": {"attention.head_dead"},
    "down matrix of layer 1 missing": {"weights.tensor_dropped"},
}
"""Faults that the library knows, by the names that are right for them."""
DESCRIBED: dict[str, set[str]] = {
    "logits rolled by three": {"permutation"},
    "two logits exchanged": {"permutation", "certain ids"},
    "arctan cap": {"function of a logit"},
    "bias on the head": {"same vector"},
    "chunks of 16 forget": {"every n-th position", "from a position"},
    "key 5 lost after 20": {"from a position"},
    "embedding row of a token": {"certain tokens"},
    "odd clamp of the gate": {"before the head"},
    "keys rounded to 8 bits": {"before the head"},
    "layer 1 has the value matrix of layer 0": {"before the head"},
}
"""Faults that the library does not know, by what must be seen of each."""
PAIRS = (("base 10,000", "relu"), ("heads tiled", "no last norm"), ("window of 16", "scores doubled"))
TRIPLES = (
    ("base 10,000", "relu", "one added to norms"),
    ("heads tiled", "no last norm", "scores doubled"),
    ("window of 16", "relu", "base 10,000"),
    ("no norm of queries and keys", "own key hidden", "logits times 1.15"),
)
