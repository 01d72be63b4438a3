"""Heads and rotations as they can be read off the tensors themselves: how many heads a tap holds, what turns each pair."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from logitproof.protocol import taps

Arrays = Mapping[str, np.ndarray]
QUERIES = ("attn.q_proj", "attn.q", "attn.q_rope", "attn.context")
DELTA = ("linear_attn.a", "linear_attn.b", "linear_attn.z", "linear_attn.core", "linear_attn.norm")


@dataclass(frozen=True)
class Turned:
    """The first `size` entries of a head are turned, pair (i, i + size / 2) by `frequencies[i]` radians a position."""

    size: int
    frequencies: np.ndarray


def heads_of(layer: int | None, leaf: str, right: Arrays) -> tuple[int, int] | None:
    """[H, D] of what a tap holds, or None where it holds no heads or nothing says how many."""
    if leaf in DELTA:
        gate, tensor = right.get(f"layers.{layer}.linear_attn.b"), right.get(f"layers.{layer}.{leaf}")
        if gate is None or tensor is None or gate.ndim != 2 or not gate.shape[1]:
            return None
        count, width = int(gate.shape[1]), int(np.prod(tensor.shape[1:]))
        return (count, width // count) if width % count == 0 else None
    if leaf in taps.CACHED:
        slots = right.get(f"layers.{layer}.{leaf}")
        return (int(slots.shape[1]), int(slots.shape[2])) if slots is not None and slots.ndim == 3 else None
    letter = "q" if leaf in QUERIES else "k"
    known = right.get(f"layers.{layer}.attn.{letter}_rope")
    if not leaf.startswith("attn.") or leaf in ("attn.out", *taps.MATRICES) or known is None or known.ndim != 3:
        return None
    return int(known.shape[1]), int(known.shape[2])


def turns(name: str, after: Arrays, before: Arrays, size: int | None = None) -> Turned | None:
    """How the rotation `name` (`layers.N.attn.q_rope`) turned what it read; None where that cannot be seen.

    `size` says how many entries are turned, else those are that changed. The angle of a pair is that of the mean over its
    heads against the first position, followed to the last one in doubling strides, so that it is never a turn off.
    """
    rotated = after.get(name)
    layer, leaf = taps.split(name)
    stem = f"layers.{layer}.{leaf.removesuffix('_rope')}"
    unrotated = before.get(stem, before.get(f"{stem}_proj"))
    if rotated is None or unrotated is None or unrotated.size != rotated.size or len(rotated) < 2 or rotated.ndim != 3:
        return None
    turned, plain = (np.asarray(tensor, np.float64).reshape(rotated.shape) for tensor in (rotated, unrotated))
    if size is None:
        changed = np.flatnonzero((turned != plain).any(axis=(0, 1)))
        size = int(changed[-1]) + 1 if changed.size else 0
    if size < 2 or size % 2:
        return None
    half = size // 2
    numbers = (tensor[..., :half] + 1j * tensor[..., half:size] for tensor in (turned, plain))
    angles = np.angle((next(numbers) * next(numbers).conj()).sum(axis=1))
    relative = np.angle(np.exp(1j * (angles - angles[0])))
    frequencies, position = relative[1], 1
    while position * 2 < len(relative):
        position *= 2
        frequencies = _nearest(relative[position], frequencies, position)
    return Turned(size, frequencies)


def _nearest(angle: np.ndarray, frequencies: np.ndarray, position: int) -> np.ndarray:
    """The frequencies near those that are known so far whose angle at `position` is `angle`."""
    near: np.ndarray = (angle + 2 * np.pi * np.round((frequencies * position - angle) / (2 * np.pi))) / position
    return near
