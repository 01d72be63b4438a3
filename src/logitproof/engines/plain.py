"""The engine `plain`: a decoder in NumPy, written from the formulas, that shares no code with the others."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from logitproof.engines import Engine, Hello, Loaded, Mode, Scored
from logitproof.engines import _plain_layers as layers
from logitproof.engines._plain_gemma3n import Gemma3n
from logitproof.engines._plain_layers import Array, Tensors
from logitproof.errors import Refusal
from logitproof.files.untrusted import read_object
from logitproof.weights.checkpoint import read_checkpoint

GEMMAS = ("gemma2", "gemma3_text")
STORED_LESS_ONE = (*GEMMAS, "qwen3_5_text")
DENSE = ("llama", "mistral", "smollm3", "granite", "qwen2", "qwen3", "phi3")
EXPERTS = ("qwen2_moe", "qwen3_moe", "glm4_moe", "gpt_oss", "llama4_text", "phimoe")
STREAMS = ("gemma3n_text",)
BLOCKS = {"llama4_text": "feed_forward", "phimoe": "block_sparse_moe"}
FAMILIES = (*STORED_LESS_ONE, *DENSE, *EXPERTS, *STREAMS)


@dataclass
class Plain(Engine):
    """A decoder in NumPy, written from the papers' formulas: an independent witness for small models, and slow.

    Reads HF folders of Llama, Mistral, SmolLM 3, Granite, Qwen 2 to 3.5, Gemma 2, 3 and 3n, Phi 3, Phi-3.5 MoE,
    GLM-4-MoE, GPT-OSS and Llama 4, and runs one position or many, with a cache.
    """

    arithmetic: ClassVar[dict[str, Any]] = {"base": "$dtype", "rope": "exact", "delta": "steps"}

    dtype: Literal["float32", "float64"] = "float32"
    _config: dict[str, Any] = field(init=False, default_factory=dict, repr=False)
    _tensors: Tensors = field(init=False, default_factory=dict, repr=False)

    def hello(self) -> Hello:
        return Hello(versions={"plain": "1", "numpy": np.__version__}, generate=False, tokenize=False)

    def load(self, model: Path, config: Path | None = None) -> Loaded:
        if not (model / "config.json").is_file():
            raise Refusal(f"{model} is no HF model folder", field="model", remedy="name the folder that holds config.json")
        self._config = read_object(model / "config.json")
        if self._config["model_type"] not in FAMILIES:
            raise Refusal(f"{self._config['model_type']!r} is not one of {', '.join(FAMILIES)}", field="model")
        kind = np.dtype(self.dtype)
        self._tensors = {name: self._stored(name, values).astype(kind) for name, values in read_checkpoint(model).items()}
        return Loaded(self._config["vocab_size"], self._config["max_position_embeddings"], details={"dtype": "float32"})

    def score(self, token_ids: Sequence[int], mode: Mode) -> Scored:
        if not self._tensors:
            raise Refusal("no model is loaded", remedy="send load first")
        if max(token_ids) >= (size := self._config["vocab_size"]):
            raise Refusal(f"token id {max(token_ids)} is outside the vocabulary of {size}", field="token_ids")
        cache: list[dict[str, Array]] = [{} for _ in range(self._config["num_hidden_layers"])]
        step = len(token_ids) if mode == "prefill" else 1
        parts = [self._forward(np.asarray(token_ids[at : at + step]), at, cache) for at in range(0, len(token_ids), step)]
        return Scored(np.concatenate(parts))

    def _stored(self, name: str, values: Array) -> Array:
        """Some families store the weights of their norms less one."""
        less_one = self._config["model_type"] in STORED_LESS_ONE and "norm" in name and ".linear_attn." not in name
        return values + 1 if less_one else values

    def _forward(self, ids: Array, start: int, cache: list[dict[str, Array]]) -> Array:
        config, tensors = self._config, self._tensors
        if config["model_type"] in STREAMS:
            return Gemma3n(config, tensors).logits(ids, start, cache)
        gemma = config["model_type"] in GEMMAS
        factor = math.sqrt(config["hidden_size"]) if gemma else config.get("embedding_multiplier", 1.0)
        added = config.get("residual_multiplier", 1.0)
        x = tensors["model.embed_tokens.weight"][ids] * factor
        for number, kept in enumerate(cache):
            place = f"model.layers.{number}"
            mixed = self._mix(self._norm(x, f"{place}.input_layernorm"), number, start, kept)
            x = x + (self._norm(mixed, f"{place}.post_attention_layernorm") if gemma else mixed * added)
            name = "pre_feedforward_layernorm" if gemma else "post_attention_layernorm"
            block = f"{place}.{BLOCKS.get(config['model_type'], 'mlp')}"
            fed = self._feed_forward(self._norm(x, f"{place}.{name}"), block)
            x = x + (self._norm(fed, f"{place}.post_feedforward_layernorm") if gemma else fed * added)
        head = "model.embed_tokens.weight" if config.get("tie_word_embeddings") else "lm_head.weight"
        logits = (self._norm(x, "model.norm") @ tensors[head].T + tensors.get("lm_head.bias", 0)) / config.get(
            "logits_scaling", 1.0
        )
        cap = config.get("final_logit_softcapping")
        return np.asarray(np.tanh(logits / cap) * cap if cap else logits)

    def _norm(self, x: Array, name: str) -> Array:
        weight, eps = self._tensors[f"{name}.weight"], self._config["rms_norm_eps"]
        if f"{name}.bias" in self._tensors:
            return layers.layer_norm(x, weight, self._tensors[f"{name}.bias"], eps)
        return layers.rms_norm(x, weight, eps)

    def _mix(self, x: Array, number: int, start: int, kept: dict[str, Array]) -> Array:
        kinds = self._config.get("layer_types") or []
        kind = kinds[number] if kinds else "full_attention"
        if kind == "linear_attention":
            return self._delta_net(x, f"model.layers.{number}.linear_attn", kept)
        windowed = kind == "sliding_attention" or (not kinds and self._config["model_type"] == "mistral")
        return self._attention(x, number, start, kept, kind, windowed)

    def _attention(self, x: Array, number: int, start: int, kept: dict[str, Array], kind: str, windowed: bool) -> Array:
        config, tensors, place = self._config, self._tensors, f"model.layers.{number}.self_attn"
        size = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
        q, k, v = (part.reshape(len(x), -1, size) for part in self._projected(x, place, size))
        gate = None
        if config["model_type"] == "qwen3_5_text":
            halves = q.reshape(len(x), -1, 2 * size)
            q, gate = halves[..., :size], halves[..., size:].reshape(len(x), -1)
        if f"{place}.q_norm.weight" in tensors:
            q, k = self._norm(q, f"{place}.q_norm"), self._norm(k, f"{place}.k_norm")
        rope = config["rope_parameters"]
        turned = (config.get("no_rope_layers") or [1] * config["num_hidden_layers"])[number]
        angles, scale = layers.inverse_frequencies(rope.get(kind, rope), size, config["max_position_embeddings"])
        places = np.arange(start, start + len(x))
        rotate = layers.rotate_neighbours if config["model_type"] == "llama4_text" else layers.rotate
        q, k = (rotate(part, places[:, None] * angles * turned, scale).astype(x.dtype) for part in (q, k))
        if config["model_type"] == "llama4_text":
            q, k = layers.lengths_or_temperature(q, k, places, config, bool(turned))
        kept["k"] = np.concatenate([kept["k"], k]) if "k" in kept else k
        kept["v"] = np.concatenate([kept["v"], v]) if "v" in kept else v
        out = layers.attend(
            q, kept["k"], kept["v"], start,
            config.get("attention_multiplier") or (config.get("query_pre_attn_scalar") or size) ** -0.5,
            config["sliding_window"] if windowed else None, config.get("attn_logit_softcapping"), tensors.get(f"{place}.sinks"),
            config["attention_chunk_size"] if kind == "chunked_attention" else None,
        )  # fmt: skip
        return layers.linear(out if gate is None else out * layers.sigmoid(gate), tensors, f"{place}.o_proj")

    def _projected(self, x: Array, place: str, size: int) -> list[Array]:
        if f"{place}.qkv_proj.weight" not in self._tensors:
            return [layers.linear(x, self._tensors, f"{place}.{name}_proj") for name in "qkv"]
        ends = np.cumsum([self._config["num_attention_heads"] * size, self._config["num_key_value_heads"] * size])
        return list(np.split(layers.linear(x, self._tensors, f"{place}.qkv_proj"), ends, axis=-1))

    def _delta_net(self, x: Array, place: str, kept: dict[str, Array]) -> Array:
        config, tensors = self._config, self._tensors
        keys, values = config["linear_num_key_heads"], config["linear_num_value_heads"]
        size, taps = config["linear_key_head_dim"], config["linear_conv_kernel_dim"]
        mixed = layers.linear(x, tensors, f"{place}.in_proj_qkv")
        before = kept.get("conv", np.zeros((taps - 1, mixed.shape[1]), x.dtype))
        window = np.concatenate([before, mixed])
        kept["conv"] = window[-(taps - 1) :]
        kernel = tensors[f"{place}.conv1d.weight"][:, 0].T
        mixed = layers.silu(np.stack([(window[at : at + taps] * kernel).sum(0) for at in range(len(x))]))
        q, k, v = np.split(mixed, [keys * size, 2 * keys * size], axis=-1)
        q, k = (np.repeat(layers.unit(vectors.reshape(len(x), keys, size)), values // keys, axis=1) for vectors in (q, k))
        v = v.reshape(len(x), values, -1)
        beta = layers.sigmoid(layers.linear(x, tensors, f"{place}.in_proj_b"))
        speed = np.logaddexp(0, layers.linear(x, tensors, f"{place}.in_proj_a") + tensors[f"{place}.dt_bias"])
        state = kept.get("state", np.zeros((values, size, v.shape[-1]), x.dtype))
        out, kept["state"] = layers.delta_rule(q * size**-0.5, k, v, -np.exp(tensors[f"{place}.A_log"]) * speed, beta, state)
        gate = layers.silu(layers.linear(x, tensors, f"{place}.in_proj_z")).reshape(out.shape)
        return layers.linear((self._norm(out, f"{place}.norm") * gate).reshape(len(x), -1), tensors, f"{place}.out_proj")

    def _feed_forward(self, x: Array, place: str) -> Array:
        if f"{place}.gate.weight" in self._tensors or f"{place}.router.weight" in self._tensors:
            return self._experts(x, place)
        return self._gated(x, place)

    def _gated(self, x: Array, place: str) -> Array:
        """down(act(gate) · up), gate and up in one matrix or in two."""
        tensors = self._tensors
        act = layers.ACTIVATIONS[self._config.get("hidden_activation") or self._config["hidden_act"]]
        if f"{place}.gate_up_proj.weight" in tensors:
            gate, up = np.split(layers.linear(x, tensors, f"{place}.gate_up_proj"), 2, axis=-1)
        else:
            gate, up = (layers.linear(x, tensors, f"{place}.{self._called(name)}") for name in ("gate_proj", "up_proj"))
        return layers.linear(act(gate) * up, tensors, f"{place}.{self._called('down_proj')}")

    def _called(self, projection: str) -> str:
        """Some checkpoints number the matrices of an expert."""
        numbered = {"gate_proj": "w1", "down_proj": "w2", "up_proj": "w3"}
        return numbered[projection] if self._config["model_type"] == "phimoe" else projection

    def _experts(self, x: Array, place: str) -> Array:
        """Each token through its chosen experts, and through the shared one where there is one."""
        config, tensors, kind = self._config, self._tensors, self._config["model_type"]
        scores = layers.linear(x, tensors, f"{place}.{'router' if kind in ('gpt_oss', 'llama4_text') else 'gate'}")
        if kind == "llama4_text":
            return self._weighted_inputs(x, place, scores)
        correction = tensors.get(f"{place}.gate.e_score_correction_bias")
        if kind == "phimoe":
            chosen, shares = layers.mixed_sparsely(scores, 2 * config["router_jitter_noise"])
        else:
            chosen, shares = layers.chosen_experts(scores, config["num_experts_per_tok"], kind, config, correction)
        out = np.zeros_like(x)
        for at, number in np.ndindex(chosen.shape):
            out[at] += shares[at, number] * self._expert(x[at], f"{place}.experts", int(chosen[at, number]))
        if f"{place}.shared_expert_gate.weight" in tensors:
            gate = layers.sigmoid(layers.linear(x, tensors, f"{place}.shared_expert_gate"))
            out += gate * self._gated(x, f"{place}.shared_expert")
        if f"{place}.shared_experts.up_proj.weight" in tensors:
            out += self._gated(x, f"{place}.shared_experts")
        return out

    def _weighted_inputs(self, x: Array, place: str, scores: Array) -> Array:
        """Llama 4: the sigmoid of the chosen expert's score multiplies what the expert reads."""
        out, act, tensors = self._gated(x, f"{place}.shared_expert"), layers.silu, self._tensors
        chosen = np.argsort(-scores, axis=-1, kind="stable")[:, : self._config["num_experts_per_tok"]]
        for at, number in np.ndindex(chosen.shape):
            expert = chosen[at, number]
            read = x[at] * layers.sigmoid(scores[at, expert])
            gate, up = np.split(read @ tensors[f"{place}.experts.gate_up_proj"][expert], 2)
            out[at] += (up * act(gate)) @ tensors[f"{place}.experts.down_proj"][expert]
        return out

    def _expert(self, x: Array, place: str, number: int) -> Array:
        tensors = self._tensors
        if self._config["model_type"] != "gpt_oss":
            return self._gated(x, f"{place}.{number}")
        limit = self._config.get("swiglu_limit", 7.0)
        gate_and_up = x @ tensors[f"{place}.gate_up_proj"][number] + tensors[f"{place}.gate_up_proj_bias"][number]
        gate, up = np.minimum(gate_and_up[::2], limit), np.clip(gate_and_up[1::2], -limit, limit)
        inner = (up + 1) * gate * layers.sigmoid(self._config.get("swiglu_alpha", 1.702) * gate)
        return np.asarray(inner @ tensors[f"{place}.down_proj"][number] + tensors[f"{place}.down_proj_bias"][number])
