"""Is a wrong tensor the right one in another order? Rotary pairs, heads, halves, positions, signs, scales.

What fits is said beside the numbers: a layout is a guess at the cause, and the error stays what it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from logitproof.localization.heads import heads_of
from logitproof.protocol import taps

PARTNERS = {
    "mlp.gate": "mlp.up", "mlp.up": "mlp.gate", "attn.q": "attn.k", "attn.k": "attn.q", "attn.q_proj": "attn.k_proj",
    "attn.k_proj": "attn.v_proj", "attn.v_proj": "attn.k_proj", "attn.q_rope": "attn.k_rope", "attn.k_rope": "attn.q_rope",
    "linear_attn.a": "linear_attn.b", "linear_attn.b": "linear_attn.a",
}  # fmt: skip


def explained_by_layout(name: str, candidate: np.ndarray, right: Mapping[str, np.ndarray], limit: float) -> str:
    """How `candidate` becomes the right tensor of this tap, or of another, within `limit`; nothing where it does not."""
    wanted = np.asarray(right[name], np.float64)
    values = np.asarray(candidate, np.float64).reshape(wanted.shape)
    layer, leaf = taps.split(name)
    partner = f"layers.{layer}.{PARTNERS.get(leaf, '')}"
    if partner in right and right[partner].size == values.size and _fits(values, right[partner].reshape(values.shape), limit):
        return f"it is {partner}"
    for text, changed in _orders(layer, leaf, values, right):
        if changed.shape == wanted.shape and _fits(changed, wanted, limit):
            return text
    scale = float((values * wanted).sum() / max((wanted * wanted).sum(), 1e-300))
    if scale and np.isfinite(scale) and _fits(values / scale, wanted, limit):
        return "its sign is turned" if abs(scale + 1) < 1e-3 else f"it is {scale:.6g} times the right one"
    return ""


def _orders(
    layer: int | None, leaf: str, values: np.ndarray, right: Mapping[str, np.ndarray]
) -> Iterator[tuple[str, np.ndarray]]:
    if leaf not in taps.MATRICES and len(values) > 1:
        yield "row t holds position t - 1", np.concatenate([values[1:], values[-1:]])
        yield "row t holds position t + 1", np.concatenate([values[:1], values[:-1]])
    if leaf in taps.MATRICES:
        yield "queries and keys are exchanged", values.swapaxes(1, 2)
    shape = heads_of(layer, leaf, right)
    if shape is not None and values.size == len(values) * shape[0] * shape[1]:
        whole = values.reshape(len(values), *shape)
        for text, changed in _of_heads(whole, right, layer):
            yield text, changed.reshape(values.shape)
    if values.ndim == 2 and values.shape[0] == values.shape[1]:
        yield "rows and columns are exchanged", values.T


def _of_heads(whole: np.ndarray, right: Mapping[str, np.ndarray], layer: int | None) -> Iterator[tuple[str, np.ndarray]]:
    """Changes of [T, H, D] inside heads and among them."""
    heads, size = whole.shape[1:]
    if size % 2 == 0:
        pairs = whole.reshape(*whole.shape[:-1], size // 2, 2)
        yield "rotary pairs are neighbours where halves belong", np.concatenate([pairs[..., 0], pairs[..., 1]], -1)
        halves = whole.reshape(*whole.shape[:-1], 2, size // 2)
        yield "rotary pairs are halves where neighbours belong", halves.swapaxes(-1, -2).reshape(whole.shape)
    yield "heads and their entries are exchanged", whole.reshape(len(whole), size, heads).swapaxes(1, 2)
    yield "heads are in reverse order", whole[:, ::-1]
    shared = right.get(f"layers.{layer}.attn.k_rope")
    groups = shared.shape[1] if shared is not None and shared.ndim == 3 else 0
    if groups and 1 < groups < heads and heads % groups == 0:
        tiled = whole.reshape(len(whole), heads // groups, groups, size).swapaxes(1, 2).reshape(whole.shape)
        yield "heads of a group are tiled where they belong together", tiled
    for by in (1, -1):
        yield f"heads are shifted by {by}", np.roll(whole, by, axis=1)


def _fits(values: np.ndarray, wanted: np.ndarray, limit: float) -> bool:
    scale = np.linalg.norm(wanted)
    return bool(scale and np.linalg.norm(values - wanted) <= limit * scale)
