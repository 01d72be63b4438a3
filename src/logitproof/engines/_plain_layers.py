"""The layers of the decoder families in NumPy, written from their formulas: one position or many, with a cache."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

Array = np.ndarray
Tensors = dict[str, Array]


def rms_norm(x: Array, weight: Array, eps: float) -> Array:
    """x / sqrt(mean x² + eps) · weight, over the last axis (Zhang and Sennrich 2019)."""
    return x / np.sqrt(np.mean(x * x, -1, keepdims=True) + eps) * weight


def layer_norm(x: Array, weight: Array, bias: Array, eps: float) -> Array:
    """(x - mean) / sqrt(variance + eps) · weight + bias, over the last axis (Ba et al. 2016)."""
    centred = x - np.mean(x, -1, keepdims=True)
    return centred / np.sqrt(np.mean(centred * centred, -1, keepdims=True) + eps) * weight + bias


def silu(x: Array) -> Array:
    """x · sigmoid(x)."""
    return x * sigmoid(x)


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), without overflow."""
    return 0.5 * (1 + np.tanh(0.5 * x))


def tanh_gelu(x: Array) -> Array:
    """GELU by tanh (Hendrycks and Gimpel 2016)."""
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def gelu(x: Array) -> Array:
    """GELU by the error function."""
    return 0.5 * x * (1 + np.vectorize(math.erf, otypes=[x.dtype])(x / math.sqrt(2)))


ACTIVATIONS = {"silu": silu, "gelu": gelu, "gelu_pytorch_tanh": tanh_gelu}


def softmax(x: Array) -> Array:
    """Over the last axis."""
    shifted = np.exp(x - x.max(-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(-1, keepdims=True))


def linear(x: Array, tensors: Tensors, name: str) -> Array:
    """x Wᵀ, and the bias where the checkpoint has one."""
    out = x @ tensors[f"{name}.weight"].T
    return np.asarray(out + tensors[f"{name}.bias"] if f"{name}.bias" in tensors else out)


def inverse_frequencies(rope: dict[str, Any], size: int, context: int) -> tuple[Array, float]:
    """[size/2] angles a position, and what cosine and sine are multiplied by."""
    turned = int(size * rope.get("partial_rotary_factor", 1.0))
    plain = 1.0 / rope["rope_theta"] ** (np.arange(0, turned, 2) / turned)
    kind, factor = rope.get("rope_type", "default"), rope.get("factor", 1.0)
    if kind == "default":
        return plain, 1.0
    if kind == "linear":
        return plain / factor, 1.0
    original = rope["original_max_position_embeddings"]
    if kind == "llama3":
        wavelength = 2 * math.pi / plain
        low, high = rope["low_freq_factor"], rope["high_freq_factor"]
        smooth = np.clip((original / wavelength - low) / (high - low), 0, 1)
        return plain * (smooth + (1 - smooth) / factor), 1.0
    if kind == "yarn":
        return _yarn(plain, rope, turned, factor, original), 0.1 * math.log(factor) + 1
    if kind == "longrope":
        scale = context / original
        return plain / np.array(rope["short_factor"]), math.sqrt(1 + math.log(scale) / math.log(original))
    raise ValueError(f"unknown rotary scaling {kind!r}")


def rotate(x: Array, angles: Array, scale: float) -> Array:
    """Rotary positions (Su et al. 2021) on the first 2F entries of each head; x [T, H, D], angles [T, F], by halves."""
    cos, sin = scale * np.cos(angles)[:, None], scale * np.sin(angles)[:, None]
    half = angles.shape[1]
    first, second, rest = x[..., :half], x[..., half : 2 * half], x[..., 2 * half :]
    return np.concatenate([first * cos - second * sin, second * cos + first * sin, rest], -1)


def rotate_neighbours(x: Array, angles: Array, scale: float) -> Array:
    """The same with entries 2i and 2i + 1 of each head as pairs."""
    cos, sin = scale * np.cos(angles)[:, None], scale * np.sin(angles)[:, None]
    turned = np.array(x, np.result_type(x, cos))
    turned[..., ::2], turned[..., 1::2] = x[..., ::2] * cos - x[..., 1::2] * sin, x[..., 1::2] * cos + x[..., ::2] * sin
    return turned


def lengths_or_temperature(q: Array, k: Array, places: Array, config: dict[str, Any], turned: bool) -> tuple[Array, Array]:
    """Llama 4: q and k over their length where they were rotated, else q times 1 + a · log(1 + floor((p + 1) / f))."""
    if turned and config["use_qk_norm"]:
        return tuple(
            vectors / np.sqrt(np.mean(vectors * vectors, -1, keepdims=True) + config["rms_norm_eps"]) for vectors in (q, k)
        )  # type: ignore[return-value]
    if turned or not config["attn_temperature_tuning"]:
        return q, k
    factor = 1 + config["attn_scale"] * np.log1p(np.floor((places + 1) / config["floor_scale"]))
    return (q * factor[:, None, None]).astype(q.dtype), k


def attend(
    q: Array,
    k: Array,
    v: Array,
    start: int,
    scale: float,
    window: int | None,
    cap: float | None,
    sinks: Array | None,
    chunk: int | None = None,
) -> Array:
    """Causal attention of q [T, H, D] at positions start… to k, v [S, K, D]: [T, H·D]."""
    heads, groups = q.shape[1], q.shape[1] // k.shape[1]
    k, v = (np.repeat(vectors, groups, axis=1) for vectors in (k, v))
    scores = np.einsum("thd,shd->hts", q, k) * scale
    if cap:
        scores = np.tanh(scores / cap) * cap
    apart = start + np.arange(len(q))[:, None] - np.arange(len(k))[None]
    seen = (apart >= 0) & (apart < (window or len(k) + 1))
    if chunk is not None:
        seen &= (start + np.arange(len(q)))[:, None] // chunk == np.arange(len(k))[None] // chunk
    scores = np.where(seen, scores, -np.inf)
    if sinks is not None:
        scores = np.concatenate([scores, np.broadcast_to(sinks[:, None, None], (heads, len(q), 1))], -1)
    shares = softmax(scores)[..., : len(k)]
    return np.asarray(np.einsum("hts,shd->thd", shares, v).reshape(len(q), -1))


def delta_rule(q: Array, k: Array, v: Array, decay: Array, beta: Array, state: Array) -> tuple[Array, Array]:
    """Gated delta rule (Yang et al. 2024), one position after another; q, k, v [T, H, D], state [H, D, D]."""
    out = np.empty_like(v)
    for at in range(len(q)):
        state = state * np.exp(decay[at])[:, None, None]
        recalled = np.einsum("hkv,hk->hv", state, k[at])
        state = state + np.einsum("hk,hv->hkv", k[at], (v[at] - recalled) * beta[at][:, None])
        out[at] = np.einsum("hkv,hk->hv", state, q[at])
    return out, state


def chosen_experts(
    scores: Array, count: int, kind: str, config: dict[str, Any], correction: Array | None
) -> tuple[Array, Array]:
    """Indices and shares [T, k] of the experts that the router's `scores` [T, X] choose.

    Qwen takes softmax over all, GPT-OSS over the chosen, GLM sigmoids that are corrected for the choice alone, and first
    the groups whose best two are best.
    """
    if kind == "glm4_moe":
        gates = sigmoid(scores)
        ranked = gates + correction
        groups = ranked.reshape(len(scores), config["n_group"], -1)
        best = np.argsort(-np.sort(groups, -1)[..., -2:].sum(-1), -1)[:, : config["topk_group"]]
        open_ = np.zeros(groups.shape[:2], bool)
        np.put_along_axis(open_, best, True, 1)
        ranked = np.where(open_[..., None], groups, -np.inf).reshape(ranked.shape)
    else:
        gates, ranked = (scores if kind == "gpt_oss" else softmax(scores)), scores
    chosen = np.argsort(-ranked, axis=-1, kind="stable")[:, :count]
    shares = np.take_along_axis(gates, chosen, axis=-1)
    if kind == "gpt_oss":
        return chosen, softmax(shares)
    if config.get("norm_topk_prob"):
        shares = shares / shares.sum(-1, keepdims=True)
    return chosen, shares * config.get("routed_scaling_factor", 1.0)


def mixed_sparsely(scores: Array, apart: float) -> tuple[Array, Array]:
    """SparseMixer-v2 of Phi-3.5 MoE (Liu et al. 2024) without sampling: indices and shares [T, 2] of `scores` [T, X].

    The best expert's share is its softmax among those that are no further below it than `apart` of the score's size; then the
    same once more among the others. So two shares are of no common sum, and are one where no expert is near.
    """
    left, chosen, shares = scores, list[Array](), list[Array]()
    for _ in range(2):
        best = left.argmax(-1)
        top = np.take_along_axis(left, best[:, None], -1)
        near = (top - scores) / np.maximum(np.abs(scores), top) <= apart
        shares.append(1 / np.where(near & np.isfinite(left), np.exp(left - top), 0).sum(-1))
        chosen.append(best)
        left = left.copy()
        np.put_along_axis(left, best[:, None], -np.inf, -1)
    return np.stack(chosen, -1), np.stack(shares, -1)


def unit(x: Array) -> Array:
    """x / sqrt(sum x² + 1e-6) over the last axis."""
    return np.asarray(x / np.sqrt((x * x).sum(-1, keepdims=True) + 1e-6))


def _yarn(plain: Array, rope: dict[str, Any], turned: int, factor: float, original: int) -> Array:
    """YaRN (Peng et al. 2023): slow dimensions are interpolated, fast ones are not, those between are mixed."""

    def dimension(turns: float) -> float:
        return turned * math.log(original / (turns * 2 * math.pi)) / (2 * math.log(rope["rope_theta"]))

    low, high = dimension(rope.get("beta_fast") or 32), dimension(rope.get("beta_slow") or 1)
    if rope.get("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, turned - 1)
    ramp = np.clip((np.arange(turned // 2) - low) / max(high - low, 0.001), 0, 1)
    return plain / factor * ramp + plain * (1 - ramp)
