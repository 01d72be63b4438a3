"""An engine of NumPy alone with faults written by hand: it shares no code with the library's bugs, nor with any engine of it.

Qwen3 and Qwen3-MoE: grouped-query attention with a norm on every query and key head, RoPE in halves, SwiGLU, experts, float32;
in one pass, or token by token through a cache.
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
TOKEN = 77
"""The token whose row one fault loses."""


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
        self._spoil()

    def score(self, ids: Sequence[int], mode: str = "prefill") -> Array:
        """Logits float32 [T, V], in one pass or token by token."""
        caches: list[dict[str, Array]] = [{} for _ in range(self.config["num_hidden_layers"])]
        steps = [ids] if mode == "prefill" else [[token] for token in ids]
        rows, start = [], 0
        for step in steps:
            rows.append(self._passed(step, start, caches))
            start += len(step)
        return self._reported(np.concatenate(rows), ids)

    def _spoil(self) -> None:
        """Weights as a faulty loader leaves them."""
        at, weights = "model.layers.{}.{}.weight", self.weights
        value, query, down = "self_attn.v_proj", "self_attn.q_proj", "mlp.down_proj"
        if "layer 1 has the value matrix of layer 0" in self.faults:
            weights[at.format(1, value)] = weights[at.format(0, value)]
        if "query matrices of the layers exchanged" in self.faults:
            names = at.format(0, query), at.format(1, query)
            weights[names[0]], weights[names[1]] = weights[names[1]], weights[names[0]]
        if "down matrix of layer 1 missing" in self.faults:
            weights[at.format(1, down)] = weights[at.format(1, down)] * 0
        if "output matrix of layer 0 not initialized" in self.faults:
            name = at.format(0, "self_attn.o_proj")
            weights[name] = np.random.default_rng(7).normal(0, 0.03, weights[name].shape).astype(np.float32)
        expert = "mlp.experts.{}.{}_proj"
        for part in ("gate", "up", "down"):
            if "expert 4 of layer 1 is expert 2" in self.faults:
                weights[at.format(1, expert.format(4, part))] = weights[at.format(1, expert.format(2, part))]
            if "experts 1 and 3 exchanged" in self.faults:
                for layer in range(self.config["num_hidden_layers"]):
                    names = at.format(layer, expert.format(1, part)), at.format(layer, expert.format(3, part))
                    weights[names[0]], weights[names[1]] = weights[names[1]], weights[names[0]]

    def _passed(self, ids: Sequence[int], start: int, caches: list[dict[str, Array]]) -> Array:
        x = self.weights["model.embed_tokens.weight"][list(ids)]
        if "embedding row of a token" in self.faults:
            x = np.where(np.array(ids)[:, None] == TOKEN, np.float32(0), x)
        if "embedding times 16" in self.faults:
            x = x * np.float32(16)
        for layer, cache in enumerate(caches):
            x = self._layer(x, layer, start, cache)
        x = x if "no last norm" in self.faults else self._norm(x, "model.norm.weight")
        head = self.weights.get("lm_head.weight", self.weights["model.embed_tokens.weight"])
        if "head in bfloat16" in self.faults:
            head, x = _narrow(head, 16), _narrow(x, 16)
        return self._odd(x @ head.T)

    def _reported(self, rows: Array, ids: Sequence[int]) -> Array:
        changes: dict[str, Callable[[Array], Array]] = {
            "logits times 1.15": lambda z: z * np.float32(1.15),
            "logits rolled by three": lambda z: np.roll(z, 3, axis=1),
            "two logits exchanged": lambda z: z[:, [1, 0, *range(2, z.shape[1])]],
            "probabilities": lambda z: (
                np.exp(z - z.max(1, keepdims=True)) / np.exp(z - z.max(1, keepdims=True)).sum(1, keepdims=True)
            ),
            "arctan cap": lambda z: 9 * np.arctan(z / 9),
            "bias on the head": lambda z: z + np.sin(np.arange(z.shape[1], dtype=np.float32)),
            "repetition penalty of 1.25": lambda z: _penalized(z, ids, lambda row: np.where(row > 0, row / 1.25, row * 1.25)),
            "0.8 off for tokens that came": lambda z: _penalized(z, ids, lambda row: row - 0.8),
            "tokens that came are halved": lambda z: _penalized(z, ids, lambda row: row / 2),
        }
        for name, change in changes.items():
            if name in self.faults:
                rows = change(rows).astype(np.float32)
        return rows

    def _layer(self, x: Array, layer: int, start: int, cache: dict[str, Array]) -> Array:
        at = f"model.layers.{layer}."
        added = self._odd(self._attention(self._norm(x, at + "input_layernorm.weight"), layer, start, cache))
        x = added if "no residual of attention in layer 1" in self.faults and layer == 1 else x + added
        y = self._norm(x, at + "post_attention_layernorm.weight")
        mlp = self._experts(y, at) if f"{at}mlp.gate.weight" in self.weights else self._mlp(y, f"{at}mlp.")
        return x + self._odd(mlp)

    def _mlp(self, y: Array, at: str) -> Array:
        gate, up = (y @ self.weights[f"{at}{name}_proj.weight"].T for name in ("gate", "up"))
        active = np.maximum(gate, 0) if "relu" in self.faults else gate / (1 + np.exp(-gate))
        if "odd clamp of the gate" in self.faults:
            active = np.minimum(active, np.float32(0.4))
        if "activation of 1.2 times the gate" in self.faults:
            active = gate / (1 + np.exp(-1.2 * gate))
        return (active * up).astype(np.float32) @ self.weights[f"{at}down_proj.weight"].T

    def _experts(self, y: Array, at: str) -> Array:
        scores = y @ self.weights[f"{at}mlp.gate.weight"].T
        shares = np.exp(scores - scores.max(1, keepdims=True))
        shares /= shares.sum(1, keepdims=True)
        order = np.argsort(-shares, axis=1, kind="stable")[:, : self.config["num_experts_per_tok"]]
        out = np.zeros_like(y)
        for place, chosen in enumerate(order):
            weights = shares[place, chosen]
            weights = weights if "shares of experts not normalized" in self.faults else weights / weights.sum()
            for weight, expert in zip(weights, chosen, strict=True):
                out[place] += weight * self._mlp(y[place : place + 1], f"{at}mlp.experts.{expert}.")[0]
        return out

    def _attention(self, x: Array, layer: int, start: int, cache: dict[str, Array]) -> Array:
        at, heads, shared = (
            f"model.layers.{layer}.self_attn.",
            self.config["num_attention_heads"],
            self.config["num_key_value_heads"],
        )
        q, k, v = (x @ self.weights[f"{at}{name}_proj.weight"].T for name in "qkv")
        q, k, v = (part.reshape(len(x), count, -1) for part, count in ((q, heads), (k, shared), (v, shared)))
        if "no norm of queries and keys" not in self.faults:
            q, k = self._norm(q, at + "q_norm.weight"), self._norm(k, at + "k_norm.weight")
        q, k = self._turned(q, self._places(len(x), start)), self._turned(k, self._places(len(x), start, of_keys=True))
        k, v = self._stored(k, v, start, cache)
        group = np.arange(heads) % shared if "heads tiled" in self.faults else np.arange(heads) // (heads // shared)
        if "last query head reads the first key head" in self.faults:
            group[-1] = 0
        scale = np.float32(self.config.get("head_dim", q.shape[-1]) ** -0.5)
        scores = np.einsum("thd,shd->hts", q, k[:, group]) * scale * (np.float32(2) if "scores doubled" in self.faults else 1)
        weights = self._weighed(scores, self._hidden(len(x), start, layer))
        out = np.einsum("hts,shd->thd", weights, v[:, group])
        if "head 2 of layer 1 lost" in self.faults and layer == 1:
            out[:, 2] = 0
        return out.reshape(len(x), -1).astype(np.float32) @ self.weights[at + "o_proj.weight"].T

    def _stored(self, k: Array, v: Array, start: int, cache: dict[str, Array]) -> tuple[Array, Array]:
        """Keys and values of all positions so far, as the cache gives them back."""
        if "keys rounded to 8 bits" in self.faults:
            k = _codes(k, 127)
        if "values in 4 bits" in self.faults:
            v = _codes(v, 7)
        if "cache in bfloat16" in self.faults:
            k, v = _narrow(k, 16), _narrow(v, 16)
        if start:
            k, v = np.concatenate([cache["k"], k]), np.concatenate([cache["v"], v])
        if "step 9 writes over slot 4" in self.faults and start == 9:
            k, v = k.copy(), v.copy()
            k[4], v[4] = k[9], v[9]
        cache |= {"k": k, "v": v}
        if "step 6 has the values of step 5" in self.faults and start >= 6:
            v = v.copy()
            v[6] = v[5]
        return k, v

    def _weighed(self, scores: Array, hidden: Array) -> Array:
        if "scores capped at 12" in self.faults:
            scores = 12 * np.tanh(scores / 12)
        scores = np.where(hidden, np.float32(-1e30), scores)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        total = weights.sum(-1, keepdims=True)
        if "a sink of one" in self.faults:
            total = total + np.exp(-scores.max(-1, keepdims=True))
        return weights / total

    def _hidden(self, count: int, start: int, layer: int) -> Array:
        query, key = np.arange(start, start + count)[:, None], np.arange(start + count)[None]
        age = query - key
        hidden = age < 0
        faults: dict[str, Callable[[], Array]] = {
            "own key hidden": lambda: (age == 0) & (query > 0),
            "chunks of 16 forget": lambda: (query % 16 == 0) & (age > 0),
            "window of 16": lambda: age >= 16,
            "window of 21": lambda: age >= 21,
            "window of 19 in layer 1": lambda: (age >= 19) & (layer == 1),
            "key 5 lost after 20": lambda: (query > 20) & (key == 5),
            "every query forgets the third key": lambda: (query > 2) & (key == 2),
            "a step forgets what is older than 12": lambda: (age > 12) & (count == 1),
        }
        for name, hides in faults.items():
            if name in self.faults:
                hidden = hidden | hides()
        if "the next key is seen" in self.faults:
            hidden = hidden & (age != -1)
        return hidden

    def _places(self, count: int, start: int, *, of_keys: bool = False) -> Array:
        places = np.arange(start, start + count) * (2 if "positions doubled" in self.faults else 1)
        if "positions begin anew at 20" in self.faults:
            places = places % 20
        if "keys one position on" in self.faults and of_keys:
            places = places + 1
        if "cached keys one position on" in self.faults and of_keys and start:
            places = places + 1
        return places

    def _turned(self, x: Array, places: Array) -> Array:
        size = x.shape[-1]
        rope = self.config.get("rope_parameters") or self.config
        base = 10_000.0 if "base 10,000" in self.faults else 70_000.0 if "base 70,000" in self.faults else rope["rope_theta"]
        angles = places[:, None] * base ** (-np.arange(0, size, 2) / size)
        cos, sin = (np.tile(part, 2)[:, None].astype(np.float32) for part in (np.cos(angles), np.sin(angles)))
        if "cosines in bfloat16" in self.faults:
            cos, sin = _narrow(cos, 16), _narrow(sin, 16)
        left, right = np.split(x, 2, axis=-1)
        return x * cos + np.concatenate([-right, left], -1) * sin

    def _norm(self, x: Array, name: str) -> Array:
        weight = self.weights[name] + (1 if "one added to norms" in self.faults and "layernorm" in name else 0)
        if "last norm takes the mean off" in self.faults and name == "model.norm.weight":
            x = x - x.mean(-1, keepdims=True)
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + self.config["rms_norm_eps"]) * weight

    def _odd(self, x: Array) -> Array:
        """What a right engine of another arithmetic makes of a result."""
        for name, dropped in (("results in bfloat16", 16), ("results in float16", 13)):
            x = _narrow(x, dropped) if name in self.faults else x
        if "results in blocks of 8 bits" in self.faults:
            x = _codes(x.reshape(*x.shape[:-1], -1, 4), 127).reshape(x.shape) if x.shape[-1] % 4 == 0 else x
        return x


def _narrow(x: Array, dropped: int) -> Array:
    """Float32 with so many of its last bits rounded away."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32).astype(np.uint64)
    half = np.uint64((1 << (dropped - 1)) - 1) + ((bits >> np.uint64(dropped)) & np.uint64(1))
    kept = (bits + half) >> np.uint64(dropped) << np.uint64(dropped)
    return kept.astype(np.uint32).view(np.float32)


def _codes(x: Array, most: int) -> Array:
    """Whole numbers up to `most` with one scale for the last dimension."""
    step = np.maximum(np.abs(x).max(-1, keepdims=True), np.float32(1e-30)) / np.float32(most)
    return np.round(x / step) * step


def _penalized(rows: Array, ids: Sequence[int], change: Callable[[Array], Array]) -> Array:
    rows = rows.copy()
    for place, row in enumerate(rows):
        came = sorted(set(ids[: place + 1]))
        row[came] = change(row[came])
    return rows
