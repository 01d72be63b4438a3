"""Functions of a transformers model that give a tap: rotation, attention in steps, scans, convolutions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from logitproof.protocol import taps as vocabulary
from logitproof.reference.rotations import Calls, is_pair
from logitproof.reference.tap_values import Taps


def rotated(taps: Taps, original: Callable[..., Any]) -> Callable[..., Any]:
    """Q [1, H, T, D] and K [1, K, T, D] after the rotation; where a model rotates each alone, [1, T, H, D] of one of them."""
    leaves, calls = ("attn.q_rope", "attn.k_rope"), Calls()

    def rotate(first: torch.Tensor, second: torch.Tensor, *args: Any, **named: Any) -> Any:
        turned = original(first, second, *args, **named)
        if not is_pair(first, second):
            return taps.at(leaves[calls.place()], turned[0])[None]
        pairs = zip(leaves, turned, strict=True)
        return tuple(taps.at(leaf, heads[0].transpose(0, 1)).transpose(0, 1)[None] for leaf, heads in pairs)

    return rotate


def attended(
    taps: Taps,
    original: Callable[..., Any],
    module: Any,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    mask: Any,
    **rest: Any,
) -> Any:
    """Attention in steps: scores and probabilities may be given. Without any given, the model's own function answers."""
    layer = module.layer_idx
    k, v = (
        taps.cached(leaf, heads[0], layer=layer)[None]
        for leaf, heads in zip(vocabulary.CACHED, (k, v), strict=True)
    )  # fmt: skip
    groups = q.shape[1] // k.shape[1]
    keys, values = (heads.repeat_interleave(groups, dim=1) for heads in (k, v))
    scaling = rest.get("scaling")
    scores = q @ keys.mT * (module.head_dim**-0.5 if scaling is None else scaling)
    if cap := rest.get("softcap"):
        scores = cap * torch.tanh(scores / cap)
    flowing = taps.at("attn.scores", scores[0], layer=layer)[None]
    out, weights = original(module, q, k, v, mask, **rest)
    if flowing.data_ptr() != scores.data_ptr():
        weights = _softmax(flowing, mask, rest.get("s_aux", getattr(module, "sinks", None)))
    given = taps.at("attn.probs", weights[0], layer=layer)[None]
    if given.data_ptr() == weights.data_ptr() and flowing.data_ptr() == scores.data_ptr():
        return out, weights
    return (given.to(values.dtype) @ values).transpose(1, 2).contiguous(), given


def _softmax(scores: torch.Tensor, mask: Any, sinks: torch.Tensor | None) -> torch.Tensor:
    masked = scores if mask is None else scores + mask
    if sinks is None:
        return masked.softmax(dim=-1, dtype=torch.float32).to(scores.dtype)
    beside = sinks.reshape(1, -1, 1, 1).expand(masked.shape[0], -1, masked.shape[-2], 1).to(masked)
    return torch.cat([masked, beside], dim=-1).softmax(dim=-1, dtype=torch.float32)[..., :-1].to(scores.dtype)


def core(taps: Taps, layer: Any, original: Callable[..., Any]) -> Callable[..., Any]:
    """The gated delta rule: its first result is [1, T, H, D]."""

    def rule(*args: Any, **named: Any) -> Any:
        out, *rest = original(*args, **named)
        return (taps.at("linear_attn.core", out[0], layer=layer.layer_idx)[None], *rest)

    return rule


def convolved(taps: Taps, leaf: str, layer: Any, original: Callable[..., Any]) -> Callable[..., Any]:
    """A causal convolution [1, C, T], of which the last positions are those of this pass, under a name of its own."""

    def convolve(*args: Any, **named: Any) -> Any:
        out = original(*args, **named)
        now = taps.at(leaf, out[0, :, -taps.length :].transpose(0, 1), layer=layer.layer_idx)
        return torch.cat([out[:, :, : -taps.length], now.transpose(0, 1)[None]], dim=-1)

    return convolve


def scanned(taps: Taps, layer: Any, original: Callable[..., Any]) -> Callable[..., Any]:
    """A Mamba-2 scan: [1, T, H, P], or [1, H, P] of one position, and the state after it where it is asked for."""

    def scan(*args: Any, **named: Any) -> Any:
        result = original(*args, **named)
        out, *rest = result if isinstance(result, tuple) else (result,)
        flowing = taps.at("scan.core", out.reshape(taps.length, -1), layer=layer.layer_idx).reshape(out.shape)
        return (flowing, *rest) if isinstance(result, tuple) else flowing

    return scan
