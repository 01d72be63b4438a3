"""Gemma 3n in NumPy, written from its papers' formulas: alternating updates, LAuReL, embeddings of every layer, sparse gates.

x [A, T, E] are A streams of which layers compute one; the others are predicted from it and corrected by it.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Any

import numpy as np

from logitproof.engines import _plain_layers as layers
from logitproof.engines._plain_layers import Array, Tensors

LEAST = 1e-5
"""The least mean square that a stream is divided by."""


class Gemma3n:
    """One model: `config` is config.json, `tensors` the checkpoint in the type that is computed in."""

    def __init__(self, config: dict[str, Any], tensors: Tensors) -> None:
        self._config, self._tensors = config, tensors
        self._own = config["num_hidden_layers"] - config["num_kv_shared_layers"]

    def logits(self, ids: Array, start: int, cache: list[dict[str, Array]]) -> Array:
        """[T, V] of tokens at positions start… behind what `cache` holds, which grows."""
        config, tensors = self._config, self._tensors
        embedded = tensors["model.embed_tokens.weight"][ids] * math.sqrt(config["hidden_size"])
        own = self._of_every_layer(ids, embedded)
        x = self._streams([embedded] * config["altup_num_inputs"], "altup_projections")
        for number, kept in enumerate(cache):
            x = self._layer(x, number, own[:, number], start, cache, kept)
        mean = self._streams(list(x), "altup_unembed_projections").mean(0)
        out = self._norm(mean, "model.norm") @ tensors["model.embed_tokens.weight"].T
        cap = config["final_logit_softcapping"]
        return np.asarray(np.tanh(out / cap) * cap if cap else out)

    def _streams(self, x: list[Array], name: str) -> Array:
        """All but the first stream through a matrix of their own, brought to the size of the first."""
        size = np.sqrt(np.mean(x[0] ** 2, -1, keepdims=True))
        made = [x[0]]
        for number, stream in enumerate(x[1:]):
            turned = layers.linear(stream, self._tensors, f"model.{name}.{number}")
            made.append(turned * size / np.sqrt(np.maximum(np.mean(turned**2, -1, keepdims=True), LEAST)))
        return np.stack(made)

    def _of_every_layer(self, ids: Array, embedded: Array) -> Array:
        """[T, L, P]: the token's own embedding for each layer and a projection of its embedding, over the root of two."""
        config, width = self._config, self._config["hidden_size_per_layer_input"]
        own = self._tensors["model.embed_tokens_per_layer.weight"][ids] * math.sqrt(width)
        projected = layers.linear(embedded, self._tensors, "model.per_layer_model_projection") / math.sqrt(
            config["hidden_size"]
        )
        projected = self._norm(projected.reshape(len(ids), -1, width), "model.per_layer_projection_norm")
        return np.asarray((projected + own.reshape(projected.shape)) / math.sqrt(2))

    def _layer(
        self, x: Array, number: int, own: Array, start: int, cache: list[dict[str, Array]], kept: dict[str, Array]
    ) -> Array:
        place, active = f"model.layers.{number}", self._config["altup_active_idx"]
        predicted = self._predicted(x, f"{place}.altup", active)
        read = self._norm(predicted[active], f"{place}.input_layernorm")
        mixed = self._attention(read, number, start, cache, kept)
        inner = layers.linear(layers.linear(read, self._tensors, f"{place}.laurel.linear_left"), self._tensors,
                              f"{place}.laurel.linear_right")  # fmt: skip
        laurel = read + self._norm(inner, f"{place}.laurel.post_laurel_norm")
        summed = (predicted[active] + self._norm(mixed, f"{place}.post_attention_layernorm") + laurel) / math.sqrt(2)
        fed = self._feed_forward(self._norm(summed, f"{place}.pre_feedforward_layernorm"), number)
        done = summed + self._norm(fed, f"{place}.post_feedforward_layernorm")
        corrected = self._corrected(predicted, done, f"{place}.altup", active)
        first = corrected[active] * self._tensors[f"{place}.altup.correct_output_scale"]
        gate = layers.tanh_gelu(layers.linear(first, self._tensors, f"{place}.per_layer_input_gate")) * own
        added = self._norm(
            layers.linear(gate, self._tensors, f"{place}.per_layer_projection"), f"{place}.post_per_layer_input_norm"
        )
        return np.concatenate([corrected[:1], corrected[1:] + added])

    def _modalities(self, x: Array, place: str) -> Array:
        scaled = self._norm(x, f"{place}.router_norm") / self._config["hidden_size"]
        return np.tanh(layers.linear(scaled, self._tensors, f"{place}.modality_router"))

    def _predicted(self, x: Array, place: str, active: int) -> Array:
        """Each stream plus a mixture of all, whose coefficients [T, A, A] the active one chooses (Baykal et al. 2023)."""
        count = len(x)
        coefficients = layers.linear(self._modalities(x[active], place), self._tensors, f"{place}.prediction_coefs")
        return np.asarray(x + np.einsum("tij,jte->ite", coefficients.reshape(-1, count, count), x))

    def _corrected(self, predicted: Array, done: Array, place: str, active: int) -> Array:
        """Each predicted stream plus a share of what the layer's result was not predicted to be."""
        shares = 1 + layers.linear(self._modalities(done, place), self._tensors, f"{place}.correction_coefs")
        return np.asarray(predicted + shares.T[..., None] * (done - predicted[active]))

    def _attention(self, x: Array, number: int, start: int, cache: list[dict[str, Array]], kept: dict[str, Array]) -> Array:
        config, place, size = self._config, f"model.layers.{number}.self_attn", self._config["head_dim"]
        kind = config["layer_types"][number]
        angles, scale = layers.inverse_frequencies(config["rope_parameters"][kind], size, config["max_position_embeddings"])
        turns = np.arange(start, start + len(x))[:, None] * angles

        def heads(name: str) -> Array:
            return layers.linear(x, self._tensors, f"{place}.{name}_proj").reshape(len(x), -1, size)

        q = layers.rotate(self._norm(heads("q"), f"{place}.q_norm"), turns, scale).astype(x.dtype)
        if number < self._own:
            k = layers.rotate(self._norm(heads("k"), f"{place}.k_norm"), turns, scale).astype(x.dtype)
            v = layers.rms_norm(heads("v"), np.ones(size, x.dtype), config["rms_norm_eps"])
            kept["k"] = np.concatenate([kept["k"], k]) if "k" in kept else k
            kept["v"] = np.concatenate([kept["v"], v]) if "v" in kept else v
        else:
            kept = cache[max(at for at in range(self._own) if config["layer_types"][at] == kind)]
        window = config["sliding_window"] if kind == "sliding_attention" else None
        out = layers.attend(q, kept["k"], kept["v"], start, 1.0, window, None, None)
        return layers.linear(out, self._tensors, f"{place}.o_proj")

    def _feed_forward(self, x: Array, number: int) -> Array:
        """Of a sparse layer, gates count by how far they are above a quantile of the normal distribution that they have."""
        place, sparsity = f"model.layers.{number}.mlp", self._config["activation_sparsity_pattern"][number]
        gate = layers.linear(x, self._tensors, f"{place}.gate_proj")
        if sparsity > 0:
            border = gate.mean(-1, keepdims=True) + gate.std(-1, keepdims=True) * NormalDist().inv_cdf(sparsity)
            gate = np.maximum(gate - border, 0).astype(x.dtype)
        inner = layers.tanh_gelu(gate) * layers.linear(x, self._tensors, f"{place}.up_proj")
        return layers.linear(inner, self._tensors, f"{place}.down_proj")

    def _norm(self, x: Array, name: str) -> Array:
        return layers.rms_norm(x, self._tensors[f"{name}.weight"], self._config["rms_norm_eps"])
